#include "picture_output.hpp"

#include <zlib.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

#include "basic/checksum.hpp"
#include "basic/png_pixels.hpp"
#include "errors.hpp"
#include "file_list.hpp"
#include "output_file.hpp"

namespace basic::codec {
namespace {

void put_big_endian(std::vector<uint8_t>& to, uint32_t value) {
    for (const int shift : {24, 16, 8, 0}) to.push_back(static_cast<uint8_t>(value >> shift));
}

void put_chunk(OutputFile& out, const char* type, Bytes payload) {
    std::vector<uint8_t> head, tail;
    put_big_endian(head, static_cast<uint32_t>(payload.size()));
    head.insert(head.end(), type, type + 4);
    put_big_endian(tail, crc32(payload, crc32(Bytes(head).subspan(4))));
    out.put(head);
    out.put(payload);
    out.put(tail);
}

// The profile's chunk: a name, the method 0, a zlib stream.
void put_profile(OutputFile& out, Bytes profile) {
    constexpr char kHead[] = "ICC Profile\0";  // and the zero that ends it
    uLongf size = compressBound(profile.size());
    std::vector<uint8_t> payload(sizeof kHead + size);
    std::copy(std::begin(kHead), std::end(kHead), payload.begin());
    if (compress(payload.data() + sizeof kHead, &size, profile.data(), profile.size()) != Z_OK)
        throw std::bad_alloc();
    payload.resize(sizeof kHead + size);
    put_chunk(out, "iCCP", payload);
}

// Whether its profile is not known to be for other pixels, by the colour space that it states (ICC.1:2022, 7.2.8): viewers
// refuse those.
bool suits(const basic_picture& picture) {
    constexpr size_t kAt = 16, kSize = 4;
    const char* const other = picture.channels < 3 ? "RGB " : "GRAY";
    return picture.icc_size < kAt + kSize || std::memcmp(picture.icc + kAt, other, kSize) != 0;
}

void put_png(OutputFile& out, const basic_picture& picture, size_t threads) {
    static constexpr uint8_t kSignature[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
    static constexpr uint8_t kColourTypes[] = {0, 4, 2, 6};
    out.put(kSignature);
    std::vector<uint8_t> header;
    put_big_endian(header, picture.width);
    put_big_endian(header, picture.height);
    header.insert(header.end(), {8, kColourTypes[picture.channels - 1], 0, 0, 0});
    put_chunk(out, "IHDR", header);
    if (picture.icc != nullptr && suits(picture)) put_profile(out, {picture.icc, picture.icc_size});
    if (picture.exif != nullptr) put_chunk(out, "eXIf", {picture.exif, picture.exif_size});
    if (picture.xmp != nullptr) {
        std::vector<uint8_t> text;
        constexpr char kHead[] = "XML:com.adobe.xmp\0\0\0\0";  // and the zero that ends it: no compression, no language
        text.assign(std::begin(kHead), std::end(kHead));
        text.insert(text.end(), picture.xmp, picture.xmp + picture.xmp_size);
        put_chunk(out, "iTXt", text);
    }
    const auto row_stride = static_cast<ptrdiff_t>(size_t{picture.width} * picture.channels);
    PngPixels pixels(
        {picture.pixels, picture.height, picture.width, static_cast<size_t>(picture.channels), row_stride},
        threads);
    while (!pixels.done()) put_chunk(out, "IDAT", pixels.next());
    put_chunk(out, "IEND", {});
}

void put_pam(OutputFile& out, const basic_picture& picture) {
    static constexpr const char* kKinds[] = {"GRAYSCALE", "GRAYSCALE_ALPHA", "RGB", "RGB_ALPHA"};
    out.put("P7\nWIDTH " + std::to_string(picture.width) + "\nHEIGHT " + std::to_string(picture.height) + "\nDEPTH " +
            std::to_string(picture.channels) + "\nMAXVAL 255\nTUPLTYPE " + kKinds[picture.channels - 1] + "\nENDHDR\n");
    out.put({picture.pixels, size_t{picture.width} * picture.height * picture.channels});
}

void put_pnm(OutputFile& out, const basic_picture& picture) {
    out.put(std::string(picture.channels == 1 ? "P5\n" : "P6\n") + std::to_string(picture.width) + " " +
            std::to_string(picture.height) + "\n255\n");
    out.put({picture.pixels, size_t{picture.width} * picture.height * picture.channels});
}

}  // namespace

void check_output(const std::string& path, bool overwrite) {
    const std::string kind = ending_of(path);
    if (path == "-") return;
    if (kind != ".png" && kind != ".ppm" && kind != ".pgm" && kind != ".pam")
        throw Error(BASIC_BAD_ARGUMENT, path + ": pictures are written as .png, .ppm, .pgm or .pam: name such a file");
    check_free(path, overwrite);
}

void write_picture(const std::string& path, const basic_picture& picture, bool overwrite, size_t threads) {
    check_output(path, overwrite);
    const std::string kind = path == "-" ? ".pam" : ending_of(path);
    if ((kind == ".pgm" && picture.channels != 1) || (kind == ".ppm" && picture.channels != 3))
        throw Error(BASIC_BAD_ARGUMENT, path + ": cannot hold a picture of " + std::to_string(picture.channels) +
                                            " channels: write .png or .pam");
    OutputFile out(path, overwrite);
    if (kind == ".png")
        put_png(out, picture, threads);
    else if (kind == ".pam")
        put_pam(out, picture);
    else
        put_pnm(out, picture);
    out.finish();
}

}  // namespace basic::codec
