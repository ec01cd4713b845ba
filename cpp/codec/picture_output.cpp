#include "picture_output.hpp"

#include <zlib.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <span>
#include <vector>

#include "errors.hpp"
#include "file_list.hpp"
#include "output_file.hpp"

namespace basic::codec {
namespace {

using Row = Bytes;

void put_big_endian(std::vector<uint8_t>& to, uint32_t value) {
    for (const int shift : {24, 16, 8, 0}) to.push_back(static_cast<uint8_t>(value >> shift));
}

void put_chunk(OutputFile& out, const char* type, Row payload) {
    std::vector<uint8_t> bytes;
    put_big_endian(bytes, static_cast<uint32_t>(payload.size()));
    bytes.insert(bytes.end(), type, type + 4);
    bytes.insert(bytes.end(), payload.begin(), payload.end());
    put_big_endian(bytes, static_cast<uint32_t>(crc32_z(0, bytes.data() + 4, bytes.size() - 4)));
    out.put(bytes);
}

uint8_t paeth(int left, int above, int corner) {
    const int guess = left + above - corner;
    const int a = std::abs(guess - left), b = std::abs(guess - above), c = std::abs(guess - corner);
    return static_cast<uint8_t>(a <= b && a <= c ? left : b <= c ? above : corner);
}

// Rows as PNG's filters leave them: of those that suit photos the one that leaves the smallest numbers, as its
// specification suggests.
class RowFilter {
  public:
    RowFilter(size_t size, size_t step) : step_(step), zeros_(size), up_(size + 1, 2), paeth_(size + 1, 4) {}

    // `above`: the row before, empty for the first one. What it returns is good until the next call.
    Row best(Row row, Row above) {
        if (above.empty()) above = zeros_;
        const size_t edge = std::min(step_, row.size());
        for (size_t x = 0; x < edge; ++x) paeth_[1 + x] = static_cast<uint8_t>(row[x] - above[x]);
        for (size_t x = edge; x < row.size(); ++x)
            paeth_[1 + x] = static_cast<uint8_t>(row[x] - paeth(row[x - step_], above[x], above[x - step_]));
        for (size_t x = 0; x < row.size(); ++x) up_[1 + x] = static_cast<uint8_t>(row[x] - above[x]);
        return magnitude(paeth_) <= magnitude(up_) ? paeth_ : up_;
    }

  private:
    static uint64_t magnitude(Row filtered) {
        uint64_t sum = 0;
        for (const uint8_t value : filtered.subspan(1)) sum += value < 128 ? value : 256 - value;
        return sum;
    }

    const size_t step_;
    const std::vector<uint8_t> zeros_;
    std::vector<uint8_t> up_, paeth_;
};

// Compresses what it is given into IDAT chunks: runs alone, as filtered photos repeat nothing else, in a third of the
// time.
class Compressor {
  public:
    explicit Compressor(OutputFile& out) : out_(out), buffer_(1 << 18) {
        if (deflateInit2(&stream_, 1, Z_DEFLATED, MAX_WBITS, MAX_MEM_LEVEL, Z_RLE) != Z_OK) throw std::bad_alloc();
    }
    ~Compressor() { deflateEnd(&stream_); }
    Compressor(const Compressor&) = delete;

    void put(Row bytes, int flush = Z_NO_FLUSH) {
        stream_.next_in = const_cast<uint8_t*>(bytes.data());
        stream_.avail_in = static_cast<uInt>(bytes.size());
        do {
            stream_.next_out = buffer_.data();
            stream_.avail_out = static_cast<uInt>(buffer_.size());
            deflate(&stream_, flush);
            const size_t made = buffer_.size() - stream_.avail_out;
            if (made > 0) put_chunk(out_, "IDAT", Row(buffer_).first(made));
        } while (stream_.avail_out == 0);
    }

  private:
    OutputFile& out_;
    std::vector<uint8_t> buffer_;
    z_stream stream_{};
};

// The profile's chunk: a name, the method 0, a zlib stream.
void put_profile(OutputFile& out, Row profile) {
    uLongf size = compressBound(profile.size());
    std::vector<uint8_t> payload = {'i', 'c', 'c', 0, 0};
    payload.resize(5 + size);
    if (compress(payload.data() + 5, &size, profile.data(), profile.size()) != Z_OK) throw std::bad_alloc();
    payload.resize(5 + size);
    put_chunk(out, "iCCP", payload);
}

void put_png(OutputFile& out, const basic_picture& picture) {
    static constexpr uint8_t kSignature[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
    static constexpr uint8_t kColourTypes[] = {0, 4, 2, 6};
    out.put(kSignature);
    std::vector<uint8_t> header;
    put_big_endian(header, picture.width);
    put_big_endian(header, picture.height);
    header.insert(header.end(), {8, kColourTypes[picture.channels - 1], 0, 0, 0});
    put_chunk(out, "IHDR", header);
    if (picture.icc != nullptr) put_profile(out, {picture.icc, picture.icc_size});
    if (picture.exif != nullptr) put_chunk(out, "eXIf", {picture.exif, picture.exif_size});
    if (picture.xmp != nullptr) {
        std::vector<uint8_t> text;
        constexpr char kHead[] = "XML:com.adobe.xmp\0\0\0\0";  // and the zero that ends it: no compression, no language
        text.assign(std::begin(kHead), std::end(kHead));
        text.insert(text.end(), picture.xmp, picture.xmp + picture.xmp_size);
        put_chunk(out, "iTXt", text);
    }
    const size_t size = size_t{picture.width} * picture.channels;
    RowFilter filter(size, picture.channels);
    Compressor compressor(out);
    Row above;
    for (size_t y = 0; y < picture.height; ++y) {
        const Row row(picture.pixels + y * size, size);
        compressor.put(filter.best(row, above));
        above = row;
    }
    compressor.put({}, Z_FINISH);
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

void write_picture(const std::string& path, const basic_picture& picture, bool overwrite) {
    check_output(path, overwrite);
    const std::string kind = path == "-" ? ".pam" : ending_of(path);
    if ((kind == ".pgm" && picture.channels != 1) || (kind == ".ppm" && picture.channels != 3))
        throw Error(BASIC_BAD_ARGUMENT, path + ": cannot hold a picture of " + std::to_string(picture.channels) +
                                            " channels: write .png or .pam");
    OutputFile out(path, overwrite);
    if (kind == ".png")
        put_png(out, picture);
    else if (kind == ".pam")
        put_pam(out, picture);
    else
        put_pnm(out, picture);
    out.finish();
}

}  // namespace basic::codec
