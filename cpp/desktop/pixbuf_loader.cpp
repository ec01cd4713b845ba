// A loader of gdk-pixbuf: programs for GNOME, Xfce, MATE and others show .basic files, and file managers
// their thumbnails.
//
// Models are the packed ones (basic-run pack) in the folder basic-codec of the user's and the system's data
// folders, such as /usr/share/basic-codec/*.basicmodel. A process opens them once, with the first file that
// it shows.
#define GDK_PIXBUF_ENABLE_BACKEND
#include <gdk-pixbuf/gdk-pixbuf.h>
#include <glib.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "basic_codec.h"
#include "exif_orientation.hpp"

namespace {

constexpr guint kMostBytes = 1u << 30;  // of a file: no picture within the limits of the library is as large

using Model = std::unique_ptr<basic_model, void (*)(basic_model*)>;
using Text = std::unique_ptr<char, void (*)(void*)>;

void fail(GError** error, int code, const std::string& reason) {
    g_set_error(error, GDK_PIXBUF_ERROR, code, "BaSIC: %s", reason.c_str());
}

// The packed models of a data folder, by their names.
std::vector<std::string> model_files(const char* data_folder) {
    const Text folder(g_build_filename(data_folder, "basic-codec", nullptr), g_free);
    std::vector<std::string> found;
    if (GDir* const entries = g_dir_open(folder.get(), 0, nullptr)) {
        while (const char* const name = g_dir_read_name(entries))
            if (g_str_has_suffix(name, ".basicmodel")) {
                const Text path(g_build_filename(folder.get(), name, nullptr), g_free);
                found.emplace_back(path.get());
            }
        g_dir_close(entries);
    }
    std::sort(found.begin(), found.end());
    return found;
}

Model opened(const std::string& path) {
    char* bytes = nullptr;
    gsize size = 0;
    if (!g_file_get_contents(path.c_str(), &bytes, &size, nullptr)) return {nullptr, basic_model_free};
    const Text kept(bytes, g_free);
    basic_model* model = nullptr;
    char reason[BASIC_ERROR_SIZE];
    if (basic_model_open(bytes, size, 0, &model, reason) != BASIC_OK)
        g_warning("BaSIC: %s: %s", path.c_str(), reason);
    return {model, basic_model_free};
}

// All models there are, the user's own first. Threads wait for the first that asks. They are never freed, as threads may
// be at work while the process ends.
const std::vector<Model>& models() {
    static const auto& all = *new std::vector<Model>([] {
        std::vector<const char*> folders = {g_get_user_data_dir()};
        for (const char* const* folder = g_get_system_data_dirs(); *folder != nullptr; ++folder)
            folders.push_back(*folder);
        std::vector<Model> found;
        for (const char* folder : folders)
            for (const std::string& path : model_files(folder))
                if (Model model = opened(path)) found.push_back(std::move(model));
        return found;
    }());
    return all;
}

using Picture = std::unique_ptr<basic_picture, void (*)(basic_picture*)>;

void free_picture(basic_picture* picture) {
    basic_picture_free(picture);
    delete picture;
}

// A file as the first model decodes it that can; null, with an error, if none does.
Picture decoded(const GByteArray& file, const basic_options& options, GError** error) {
    Picture picture(new basic_picture{}, free_picture);
    char reason[BASIC_ERROR_SIZE] =
        "no model is installed: basic-run pack makes one for /usr/share/basic-codec";
    basic_status status = BASIC_WRONG_MODEL;
    for (const Model& model : models()) {
        status = basic_decode(model.get(), file.data, file.len, &options, picture.get(), reason);
        if (status != BASIC_WRONG_MODEL) break;
    }
    if (status == BASIC_OK) return picture;
    const bool damaged = status == BASIC_DAMAGED || status == BASIC_DESYNC;
    fail(error,
         damaged                     ? GDK_PIXBUF_ERROR_CORRUPT_IMAGE
         : status == BASIC_NO_MEMORY ? GDK_PIXBUF_ERROR_INSUFFICIENT_MEMORY
                                     : GDK_PIXBUF_ERROR_FAILED,
         reason);
    return {nullptr, free_picture};
}

// Takes the picture's pixels as they are.
GdkPixbuf* pixbuf_of(Picture picture) {
    const bool alpha = picture->channels == 4;
    const auto width = static_cast<int>(picture->width), height = static_cast<int>(picture->height);
    basic_picture* const kept = picture.release();
    GdkPixbuf* const pixbuf = gdk_pixbuf_new_from_data(
        kept->pixels, GDK_COLORSPACE_RGB, alpha, 8, width, height, width * static_cast<int>(kept->channels),
        [](guchar*, gpointer data) { free_picture(static_cast<basic_picture*>(data)); }, kept);
    if (kept->exif != nullptr)
        if (const int turn = basic::exif_orientation({kept->exif, kept->exif_size}); turn != 1)
            gdk_pixbuf_set_option(pixbuf, "orientation", std::to_string(turn).c_str());
    if (kept->icc != nullptr) {
        const Text profile(g_base64_encode(kept->icc, kept->icc_size), g_free);
        gdk_pixbuf_set_option(pixbuf, "icc-profile", profile.get());
    }
    return pixbuf;
}

// --- what gdk-pixbuf calls
// ----------------------------------------------------------------------------------

// A file that comes piece by piece.
struct Load {
    GByteArray* file;
    GdkPixbufModuleSizeFunc tell_size;
    GdkPixbufModulePreparedFunc prepared;
    GdkPixbufModuleUpdatedFunc updated;
    gpointer user_data;
};

gpointer begin_load(GdkPixbufModuleSizeFunc tell_size, GdkPixbufModulePreparedFunc prepared,
                    GdkPixbufModuleUpdatedFunc updated, gpointer user_data, GError**) {
    return new Load{g_byte_array_new(), tell_size, prepared, updated, user_data};
}

gboolean load_increment(gpointer context, const guchar* bytes, guint size, GError** error) {
    GByteArray* const file = static_cast<Load*>(context)->file;
    if (size > kMostBytes - file->len) {
        fail(error, GDK_PIXBUF_ERROR_FAILED, "the file is larger than any picture that is shown");
        return FALSE;
    }
    g_byte_array_append(file, bytes, size);
    return TRUE;
}

bool show(const Load& load, GError** error) {
    basic_info info;
    char reason[BASIC_ERROR_SIZE];
    if (basic_read_info(load.file->data, load.file->len, &info, reason) != BASIC_OK) {
        fail(error, GDK_PIXBUF_ERROR_CORRUPT_IMAGE, reason);
        return false;
    }
    int width = static_cast<int>(info.width), height = static_cast<int>(info.height);
    if (load.tell_size != nullptr) load.tell_size(&width, &height, load.user_data);
    if (width == 0 || height == 0) {
        fail(error, GDK_PIXBUF_ERROR_FAILED, "the picture would have no pixels");
        return false;
    }
    // gdk-pixbuf scales what is larger than it wants. Half as many pixels a side hide what the fastest level
    // loses.
    const bool small =
        2 * static_cast<uint32_t>(width) <= info.width && 2 * static_cast<uint32_t>(height) <= info.height;
    const basic_options options = {small ? 0 : -1, info.alpha ? 4 : 3, 0};
    Picture picture = decoded(*load.file, options, error);
    if (!picture) return false;
    GdkPixbuf* const pixbuf = pixbuf_of(std::move(picture));
    if (load.prepared != nullptr) load.prepared(pixbuf, nullptr, load.user_data);
    if (load.updated != nullptr)
        load.updated(pixbuf, 0, 0, static_cast<int>(info.width), static_cast<int>(info.height),
                     load.user_data);
    g_object_unref(pixbuf);
    return true;
}

gboolean stop_load(gpointer context, GError** error) {
    const std::unique_ptr<Load> load(static_cast<Load*>(context));
    const bool shown = show(*load, error);
    g_byte_array_free(load->file, TRUE);
    return shown;
}

}  // namespace

extern "C" {

G_MODULE_EXPORT void fill_vtable(GdkPixbufModule* module) {
    module->begin_load = begin_load;
    module->load_increment = load_increment;
    module->stop_load = stop_load;
}

G_MODULE_EXPORT void fill_info(GdkPixbufFormat* info) {
    static char signature[] =
        "\x89"
        "BSC\r\n\x1A\n",
                name[] = "basic", description[] = "BaSIC", license[] = "MIT";
    static char mime_type[] = "image/x-basic", extension[] = "basic";
    static GdkPixbufModulePattern patterns[] = {{signature, nullptr, 100}, {nullptr, nullptr, 0}};
    static char* mime_types[] = {mime_type, nullptr};
    static char* extensions[] = {extension, nullptr};
    info->name = name;
    info->signature = patterns;
    info->description = description;
    info->mime_types = mime_types;
    info->extensions = extensions;
    info->flags = GDK_PIXBUF_FORMAT_THREADSAFE;
    info->license = license;
}
}
