#include "picture_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "errors.hpp"

namespace basic::codec {
namespace {

using Row = std::span<const uint8_t>;

[[noreturn]] void cannot_write(const std::string& path, int error) {
    throw Error(BASIC_BAD_ARGUMENT, path + ": cannot be written (" + std::strerror(error) + "): name another file");
}

std::string ending(const std::string& path) {
    const size_t dot = path.rfind('.');
    std::string text = dot == std::string::npos || path.find('/', dot) != std::string::npos ? "" : path.substr(dot);
    std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return text;
}

// A file that takes its name when it is whole, or standard output.
class Output {
  public:
    Output(const std::string& path, bool overwrite) : path_(path), overwrite_(overwrite), beside_(path + ".part-" + std::to_string(getpid())) {
        if (path == "-") return;
        const int file = open(beside_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (file < 0 || (file_ = fdopen(file, "wb")) == nullptr) cannot_write(path, errno);
    }
    ~Output() {
        if (file_ == stdout) return;
        if (file_ != nullptr) std::fclose(file_);
        if (!done_) std::remove(beside_.c_str());
    }
    Output(const Output&) = delete;

    void put(Row bytes) {
        if (std::fwrite(bytes.data(), 1, bytes.size(), file_) != bytes.size()) cannot_write(path_, errno);
    }
    void put(const std::string& text) { put({reinterpret_cast<const uint8_t*>(text.data()), text.size()}); }

    void finish() {
        if (std::fflush(file_) != 0) cannot_write(path_, errno);
        if (file_ == stdout) return;
        FILE* const file = std::exchange(file_, nullptr);
        if (std::fclose(file) != 0) cannot_write(path_, errno);
        // A link fails where there is such a file by now, which a rename would replace; some file systems have none.
        if (!overwrite_ && link(beside_.c_str(), path_.c_str()) == 0) return;
        if (!overwrite_ && errno == EEXIST) cannot_write(path_, EEXIST);
        if (std::rename(beside_.c_str(), path_.c_str()) != 0) cannot_write(path_, errno);
        done_ = true;
    }

  private:
    const std::string path_;
    const bool overwrite_;
    const std::string beside_;
    FILE* file_ = stdout;
    bool done_ = false;  // whether no file is left under the first name
};

void put_big_endian(std::vector<uint8_t>& to, uint32_t value) {
    for (const int shift : {24, 16, 8, 0}) to.push_back(static_cast<uint8_t>(value >> shift));
}

void put_chunk(Output& out, const char* type, Row payload) {
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

// Rows as PNG's filters leave them: of those that suit photos the one that leaves the smallest numbers, as its specification
// suggests.
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

// Compresses what it is given into IDAT chunks: runs alone, as filtered photos repeat nothing else, in a third of the time.
class Compressor {
  public:
    explicit Compressor(Output& out) : out_(out), buffer_(1 << 18) {
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
    Output& out_;
    std::vector<uint8_t> buffer_;
    z_stream stream_{};
};

// The profile's chunk: a name, the method 0, a zlib stream.
void put_profile(Output& out, Row profile) {
    uLongf size = compressBound(profile.size());
    std::vector<uint8_t> payload = {'i', 'c', 'c', 0, 0};
    payload.resize(5 + size);
    if (compress(payload.data() + 5, &size, profile.data(), profile.size()) != Z_OK) throw std::bad_alloc();
    payload.resize(5 + size);
    put_chunk(out, "iCCP", payload);
}

void put_png(Output& out, const basic_picture& picture) {
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

void put_pam(Output& out, const basic_picture& picture) {
    static constexpr const char* kKinds[] = {"GRAYSCALE", "GRAYSCALE_ALPHA", "RGB", "RGB_ALPHA"};
    out.put("P7\nWIDTH " + std::to_string(picture.width) + "\nHEIGHT " + std::to_string(picture.height) + "\nDEPTH " +
            std::to_string(picture.channels) + "\nMAXVAL 255\nTUPLTYPE " + kKinds[picture.channels - 1] + "\nENDHDR\n");
    out.put({picture.pixels, size_t{picture.width} * picture.height * picture.channels});
}

void put_pnm(Output& out, const basic_picture& picture) {
    out.put(std::string(picture.channels == 1 ? "P5\n" : "P6\n") + std::to_string(picture.width) + " " + std::to_string(picture.height) + "\n255\n");
    out.put({picture.pixels, size_t{picture.width} * picture.height * picture.channels});
}

}  // namespace

void check_output(const std::string& path, bool overwrite) {
    const std::string kind = ending(path);
    if (path == "-") return;
    if (kind != ".png" && kind != ".ppm" && kind != ".pgm" && kind != ".pam")
        throw Error(BASIC_BAD_ARGUMENT, path + ": pictures are written as .png, .ppm, .pgm or .pam: name such a file");
    struct stat status {};
    if (!overwrite && lstat(path.c_str(), &status) == 0)
        throw Error(BASIC_BAD_ARGUMENT, path + ": is there already: replace it with --overwrite");
}

void write_picture(const std::string& path, const basic_picture& picture, bool overwrite) {
    check_output(path, overwrite);
    const std::string kind = path == "-" ? ".pam" : ending(path);
    if ((kind == ".pgm" && picture.channels != 1) || (kind == ".ppm" && picture.channels != 3))
        throw Error(BASIC_BAD_ARGUMENT, path + ": cannot hold a picture of " + std::to_string(picture.channels) + " channels: write .png or .pam");
    Output out(path, overwrite);
    if (kind == ".png")
        put_png(out, picture);
    else if (kind == ".pam")
        put_pam(out, picture);
    else
        put_pnm(out, picture);
    out.finish();
}

}  // namespace basic::codec
