#include "picture_input.hpp"

#include <algorithm>
#include <cctype>
#include <map>

#include "container.hpp"
#include "errors.hpp"

namespace basic::codec {
namespace {

#if defined(BASIC_PNG) && defined(BASIC_JPEG)
constexpr const char* kConvert = "convert it to .png, .jpg or .ppm, of 8 bits";
#else
constexpr const char* kConvert = "convert it to .ppm, .pgm or .pam, of 8 bits";
#endif

bool begins(Bytes bytes, std::initializer_list<uint8_t> with) {
    return bytes.size() >= with.size() && std::equal(with.begin(), with.end(), bytes.begin());
}

Error no_picture(const std::string& what) {
    return {BASIC_DAMAGED, "this is no picture to encode (" + what + "): " + kConvert};
}

constexpr size_t kMostHeader = 1 << 16;

class PnmReader {
  public:
    PnmReader(std::vector<uint8_t> bytes, uint64_t max_pixels) : bytes_(std::move(bytes)), max_pixels_(max_pixels) {}

    InputPicture read() {
        const std::string magic = token();
        InputPicture picture;
        if (magic == "P7") {
            std::map<std::string, std::string> fields;
            for (std::string key; (key = token()) != "ENDHDR";) {
                if (key.empty()) throw no_picture("it ends in its header");
                fields[key] = token();
            }
            picture.width = number(fields["WIDTH"]), picture.height = number(fields["HEIGHT"]),
            picture.channels = number(fields["DEPTH"]);
            check_depth(fields["MAXVAL"]);
        } else {
            picture.channels = magic == "P5" ? 1 : 3;
            picture.width = number(token()), picture.height = number(token());
            check_depth(token());
        }
        if (picture.width == 0 || picture.height == 0 || picture.channels < 1 || picture.channels > 4)
            throw no_picture("its size cannot be");
        check_size(picture.width, picture.height, max_pixels_);
        picture.first = position_ + 1;  // one white space after the header
        if (picture.first > bytes_.size() ||
            (bytes_.size() - picture.first) / picture.channels / picture.width < picture.height)
            throw no_picture("it has fewer pixels than its header says");
        picture.pixels = std::move(bytes_);
        return picture;
    }

  private:
    // What stands between white space, with comments left out.
    std::string token() {
        while (position_ < bytes_.size() && (std::isspace(bytes_[position_]) != 0 || bytes_[position_] == '#'))
            if (bytes_[position_++] == '#')
                while (position_ < bytes_.size() && bytes_[position_] != '\n') ++position_;
        std::string text;
        while (position_ < bytes_.size() && std::isspace(bytes_[position_]) == 0 && text.size() < 32)
            text += static_cast<char>(bytes_[position_++]);
        if (position_ > kMostHeader) throw no_picture("its header has more than 64 KiB");
        return text;
    }

    static uint32_t number(const std::string& text) {
        if (text.empty() || text.size() > 9 || text.find_first_not_of("0123456789") != std::string::npos)
            throw no_picture("a number is missing");
        return static_cast<uint32_t>(std::stoul(text));
    }

    static void check_depth(const std::string& largest) {
        if (largest != "255") throw no_picture("its samples are not of 8 bits");
    }

    std::vector<uint8_t> bytes_;
    const uint64_t max_pixels_;
    size_t position_ = 0;
};

[[maybe_unused]] Error not_built_for(const char* kind, const char* library) {
    return {BASIC_DAMAGED,
            std::string(kind) + " is not read, as this program was built without " + library + ": " + kConvert};
}

}  // namespace

basic_picture InputPicture::view() const {
    const auto data = [](const std::vector<uint8_t>& bytes, size_t first = 0) {
        return bytes.empty() ? nullptr : const_cast<uint8_t*>(bytes.data()) + first;  // the library only reads them
    };
    return {width,     height,    channels,   data(pixels, first), data(icc), data(exif), data(xmp), icc.size(),
            exif.size(), xmp.size()};
}

void InputPicture::keep(std::vector<uint8_t>& kind, const char* name, std::vector<uint8_t> data) {
    if (data.size() <= kMaxMetadata)
        kind = std::move(data);
    else
        notices.push_back(std::string(name) + " of more than 16 MiB was left out");
}

void InputPicture::keep_exif(Bytes data) {
    while (begins(data, {'E', 'x', 'i', 'f', 0, 0})) data = data.subspan(6);
    keep(exif, "EXIF", {data.begin(), data.end()});
}

const std::vector<std::string>& picture_endings() {
    static const std::vector<std::string> kEndings = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".ppm", ".pgm", ".pam"};
    return kEndings;
}

InputPicture read_picture(std::vector<uint8_t> bytes, uint64_t max_pixels) {
    if (max_pixels == 0) max_pixels = kMaxPixels;
    if (begins(bytes, {0x89, 'P', 'N', 'G'})) {
#ifdef BASIC_PNG
        return read_png(bytes, max_pixels);
#else
        throw not_built_for("PNG", "libpng");
#endif
    }
    if (begins(bytes, {0xFF, 0xD8, 0xFF})) {
#ifdef BASIC_JPEG
        return read_jpeg(bytes, max_pixels);
#else
        throw not_built_for("JPEG", "libjpeg");
#endif
    }
    if (begins(bytes, {'P', '5'}) || begins(bytes, {'P', '6'}) || begins(bytes, {'P', '7'}))
        return PnmReader(std::move(bytes), max_pixels).read();
    throw no_picture(bytes.empty() ? "it is empty" : "it is of an unknown kind");
}

}  // namespace basic::codec
