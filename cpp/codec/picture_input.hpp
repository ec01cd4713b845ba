// Reads pictures: PPM, PGM and PAM, and PNG and JPEG where their libraries were there to build with.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "reader.hpp"

namespace basic::codec {

// A picture in memory of its own.
struct InputPicture {
    uint32_t width = 0, height = 0, channels = 0;
    std::vector<uint8_t> pixels;
    size_t first = 0;  // where its pixels begin
    std::vector<uint8_t> icc, exif, xmp;
    std::vector<std::string> notices;  // what of its file is not in it

    // What the library takes; good as long as this is.
    basic_picture view() const;

    // Metadata, unless they are too long: then a notice.
    void keep(std::vector<uint8_t>& kind, const char* name, std::vector<uint8_t> data);

    // The same, from the TIFF header on: some writers put JPEG's name for it in front, or even twice.
    void keep_exif(Bytes data);
};

// The endings of pictures that a program reads which has the libraries for all of them, such as ".png".
const std::vector<std::string>& picture_endings();

// The picture that a file holds, of 8 bits: gray or RGB, perhaps with alpha. Throws Error for what is none or is
// damaged, and for one that is too large before it takes memory for its pixels.
InputPicture read_picture(std::vector<uint8_t> bytes, uint64_t max_pixels);

#ifdef BASIC_PNG
InputPicture read_png(Bytes bytes, uint64_t max_pixels);
#endif
#ifdef BASIC_JPEG
InputPicture read_jpeg(Bytes bytes, uint64_t max_pixels);
#endif

}  // namespace basic::codec
