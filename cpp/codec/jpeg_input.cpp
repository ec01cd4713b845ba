#include <cstdio>  // which jpeglib.h wants before it

#include <jerror.h>
#include <jpeglib.h>

#include <algorithm>
#include <memory>
#include <string_view>

#include "c_errors.hpp"
#include "container.hpp"
#include "picture_input.hpp"

namespace basic::codec {
namespace {

using namespace std::string_view_literals;

constexpr auto kExif = "Exif\0\0"sv, kXmp = "http://ns.adobe.com/xap/1.0/\0"sv, kProfile = "ICC_PROFILE\0"sv;

constexpr int kMostScans = 100;  // each takes time for all pixels, be it of a few bytes

struct Problem {
    jpeg_error_mgr base;  // the first, so that the library's pointer is one to all of it
    JumpPoint point;
};

[[noreturn]] void fail(j_common_ptr info) {
    char line[JMSG_LENGTH_MAX];
    info->err->format_message(info, line);
    reinterpret_cast<Problem*>(info->err)->point.fail(line);
}

// Warnings are of damaged pixels, which are shown as they are by all programs; but a file that is cut off is none.
void warn(j_common_ptr info, int level) {
    if (level < 0 && info->err->msg_code == JWRN_JPEG_EOF) fail(info);
}

void check_scans(j_common_ptr info) {
    if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number > kMostScans)
        reinterpret_cast<Problem*>(info->err)->point.fail("it has more than 100 scans");
}

class JpegReader {
  public:
    JpegReader() {
        info_.err = jpeg_std_error(&problem_.base);
        problem_.base.error_exit = fail;
        problem_.base.emit_message = warn;
        problem_.point.guard([&] { jpeg_create_decompress(&info_); });
        progress_.progress_monitor = check_scans;
        info_.progress = &progress_;
    }
    ~JpegReader() { jpeg_destroy_decompress(&info_); }
    JpegReader(const JpegReader&) = delete;

    InputPicture read(Bytes bytes, uint64_t max_pixels) {
        problem_.point.guard([&] {
            jpeg_mem_src(&info_, bytes.data(), static_cast<unsigned long>(bytes.size()));
            for (const int marker : {JPEG_APP0 + 1, JPEG_APP0 + 2}) jpeg_save_markers(&info_, marker, 0xFFFF);
            jpeg_read_header(&info_, TRUE);
        });
        check_size(info_.image_width, info_.image_height, max_pixels);
        if (info_.num_components != 1 && info_.num_components != 3)
            throw Error(BASIC_DAMAGED, "the picture has " + std::to_string(info_.num_components) +
                                           " colours, as CMYK has: convert it to RGB");
        InputPicture picture;
        picture.width = info_.image_width, picture.height = info_.image_height,
        picture.channels = static_cast<uint32_t>(info_.num_components);
        metadata(picture);
        const size_t stride = size_t{picture.width} * picture.channels;
        picture.pixels.resize(stride * picture.height);
        problem_.point.guard([&] {
            info_.out_color_space = info_.num_components == 1 ? JCS_GRAYSCALE : JCS_RGB;
            jpeg_start_decompress(&info_);
            while (info_.output_scanline < info_.output_height) {
                JSAMPROW row = picture.pixels.data() + info_.output_scanline * stride;
                jpeg_read_scanlines(&info_, &row, 1);
            }
            jpeg_finish_decompress(&info_);
        });
        return picture;
    }

  private:
    void metadata(InputPicture& picture) {
        std::vector<uint8_t> exif;
        std::vector<Bytes> profile;
        for (const jpeg_marker_struct* marker = info_.marker_list; marker != nullptr; marker = marker->next) {
            const Bytes data(marker->data, marker->data_length);
            const auto begins = [&](std::string_view with) {
                return data.size() >= with.size() && std::equal(with.begin(), with.end(), data.begin());
            };
            if (marker->marker == JPEG_APP0 + 1 && begins(kExif))
                exif.insert(exif.end(), data.begin() + kExif.size(), data.end());
            else if (marker->marker == JPEG_APP0 + 1 && begins(kXmp))
                picture.keep(picture.xmp, "XMP", {data.begin() + kXmp.size(), data.end()});
            else if (marker->marker == JPEG_APP0 + 2 && begins(kProfile) && data.size() >= kProfile.size() + 2)
                profile.push_back(data.subspan(kProfile.size()));
        }
        picture.keep_exif(exif);
        picture.keep(picture.icc, "ICC", joined(std::move(profile)));
    }

    // The parts of a colour profile, each behind its number and how many there are; nothing unless all are there.
    static std::vector<uint8_t> joined(std::vector<Bytes> parts) {
        std::sort(parts.begin(), parts.end(), [](Bytes a, Bytes b) { return a[0] < b[0]; });
        std::vector<uint8_t> profile;
        if (parts.empty() || parts[0][1] != parts.size()) return profile;
        for (const Bytes part : parts) profile.insert(profile.end(), part.begin() + 2, part.end());
        return profile;
    }

    Problem problem_{};
    jpeg_progress_mgr progress_{};
    jpeg_decompress_struct info_{};
};

}  // namespace

InputPicture read_jpeg(Bytes bytes, uint64_t max_pixels) { return JpegReader().read(bytes, max_pixels); }

}  // namespace basic::codec
