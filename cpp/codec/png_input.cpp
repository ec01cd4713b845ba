#include <png.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <string_view>

#include "c_errors.hpp"
#include "container.hpp"
#include "picture_input.hpp"
#include "zlib_streams.hpp"

namespace basic::codec {
namespace {

constexpr std::string_view kXmpKeyword = "XML:com.adobe.xmp";

[[noreturn]] void fail(png_structp png, png_const_charp line) {
    static_cast<JumpPoint*>(png_get_error_ptr(png))->fail(line);
}

void ignore(png_structp, png_const_charp) {}

void take(png_structp png, png_bytep to, size_t count) {
    Bytes& left = *static_cast<Bytes*>(png_get_io_ptr(png));
    if (count > left.size()) png_error(png, "it is cut off");
    std::memcpy(to, left.data(), count);
    left = left.subspan(count);
}

// Throws Error where a chunk claims more bytes than follow: libpng would take memory for it.
void check_chunks(Bytes bytes) {
    for (size_t at = 8; at + 12 <= bytes.size();) {
        const size_t size = png_get_uint_32(bytes.data() + at);
        if (size > bytes.size() - at - 12) break;
        if (std::memcmp(bytes.data() + at + 4, "IEND", 4) == 0) return;
        at += 12 + size;
    }
    throw bad_picture("it is cut off");
}

class PngReader {
  public:
    explicit PngReader(Bytes bytes) : bytes_(bytes) {
        png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, &point_, fail, ignore);
        info_ = png_ == nullptr ? nullptr : png_create_info_struct(png_);
        if (info_ == nullptr) {
            png_destroy_read_struct(&png_, nullptr, nullptr);
            throw std::bad_alloc();
        }
    }
    ~PngReader() { png_destroy_read_struct(&png_, &info_, nullptr); }
    PngReader(const PngReader&) = delete;

    InputPicture read(uint64_t max_pixels) {
        point_.guard([&] {
            png_set_read_fn(png_, &bytes_, take);
            png_set_chunk_malloc_max(png_, kMaxMetadata);
            // Of what pixels do not depend on nothing is read, such as packed text, of which little may be much memory...
            png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);
            // ...but these, as they lie in the file: libpng would leave out profiles that it does not like.
            static constexpr png_byte kKept[] = "iCCP\0eXIf\0iTXt";
            png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_ALWAYS, kKept, 3);
            png_read_info(png_, info_);
        });
        InputPicture picture;
        picture.width = png_get_image_width(png_, info_), picture.height = png_get_image_height(png_, info_);
        check_size(picture.width, picture.height, max_pixels);
        transform(picture);
        const size_t stride = size_t{picture.width} * picture.channels;
        picture.pixels.resize(stride * picture.height);
        std::vector<png_bytep> rows(picture.height);
        for (size_t y = 0; y < rows.size(); ++y) rows[y] = picture.pixels.data() + y * stride;
        point_.guard([&] {
            png_read_image(png_, rows.data());
            png_read_end(png_, info_);
        });
        metadata(picture);
        return picture;
    }

  private:
    // Asks for samples of 8 bits, gray or RGB, with alpha where pixels may be transparent.
    void transform(InputPicture& picture) {
        const int kind = png_get_color_type(png_, info_), bits = png_get_bit_depth(png_, info_);
        const bool deep_gray = bits == 16 && kind == PNG_COLOR_TYPE_GRAY;
        const bool one_colour = png_get_valid(png_, info_, PNG_INFO_tRNS) != 0;  // is transparent
        if (bits == 16) picture.notices.push_back("16 bits per sample were reduced to 8");
        if (deep_gray && one_colour)
            picture.notices.push_back("the transparent colour of a 16-bit picture was ignored");
        point_.guard([&] {
            if (kind == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png_);
            if (kind == PNG_COLOR_TYPE_GRAY && bits < 8) png_set_expand_gray_1_2_4_to_8(png_);
            if (one_colour && !deep_gray) png_set_tRNS_to_alpha(png_);
            if (deep_gray)
                png_set_scale_16(png_);
            else if (bits == 16)
                png_set_strip_16(png_);
            png_set_interlace_handling(png_);
            png_read_update_info(png_, info_);
        });
        picture.channels = png_get_channels(png_, info_);
        if (png_get_rowbytes(png_, info_) != size_t{picture.width} * picture.channels)
            throw bad_picture("its rows have an unknown form");
    }

    // Of several the last counts, as it does for the package. The others are not unpacked, which takes time.
    void metadata(InputPicture& picture) {
        png_unknown_chunkp chunks = nullptr;
        const int count = png_get_unknown_chunks(png_, info_, &chunks);
        Bytes icc, exif;
        std::optional<Text> xmp;
        for (int k = 0; k < count; ++k) {
            const std::string_view type(reinterpret_cast<const char*>(chunks[k].name), 4);
            const Bytes data(chunks[k].data, chunks[k].size);
            if (type == "iCCP")
                icc = data;
            else if (type == "eXIf")
                exif = data;
            else if (const auto text = xmp_of(data))
                xmp = text;
        }
        profile(picture, icc);
        picture.keep_exif(exif);
        if (xmp && xmp->packed)
            picture.keep(picture.xmp, "XMP", inflate_up_to(xmp->bytes, kMaxMetadata));
        else if (xmp)
            picture.keep(picture.xmp, "XMP", {xmp->bytes.begin(), xmp->bytes.end()});
    }

    // A name, the number of the method, 0, and a zlib stream.
    static void profile(InputPicture& picture, Bytes data) {
        const auto zero = std::find(data.begin(), data.end(), 0);
        if (data.end() - zero >= 2 && zero[1] == 0)
            picture.keep(picture.icc, "ICC", inflate_up_to(data.subspan(zero - data.begin() + 2), kMaxMetadata));
    }

    struct Text {
        bool packed;
        Bytes bytes;
    };

    // Of XMP: a keyword, whether and how the text is packed, a language, the keyword in that, and the text.
    static std::optional<Text> xmp_of(Bytes data) {
        const std::string_view all(reinterpret_cast<const char*>(data.data()), data.size());
        const size_t keyword = kXmpKeyword.size();
        if (!all.starts_with(kXmpKeyword) || all.size() < keyword + 5 || all[keyword] != 0) return std::nullopt;
        const bool packed = all[keyword + 1] != 0;
        const size_t language = all.find('\0', keyword + 3);
        const size_t translated = language == all.npos ? all.npos : all.find('\0', language + 1);
        if (translated == all.npos || (packed && all[keyword + 2] != 0)) return std::nullopt;
        return Text{packed, data.subspan(translated + 1)};
    }

    Bytes bytes_;
    JumpPoint point_;
    png_structp png_ = nullptr;
    png_infop info_ = nullptr;
};

}  // namespace

InputPicture read_png(Bytes bytes, uint64_t max_pixels) {
    check_chunks(bytes);
    return PngReader(bytes).read(max_pixels);
}

}  // namespace basic::codec
