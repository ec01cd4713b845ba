// What the codec for browsers exports to basic_runtime/web/basic-codec.mjs. JavaScript packs and unpacks zlib streams,
// for which browsers have streams of their own; all else is done here.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

#include "decode.hpp"
#include "encode.hpp"
#include "zlib_streams.hpp"

namespace basic::codec {

std::vector<uint8_t> inflate(Bytes, size_t, const char*) {
    throw Error(BASIC_INTERNAL, "zlib streams are unpacked outside");
}
std::vector<uint8_t> deflate(Bytes) { throw Error(BASIC_INTERNAL, "zlib streams are packed outside"); }

}  // namespace basic::codec

namespace {

using namespace basic::codec;

#define BASIC_EXPORT(name) extern "C" __attribute__((export_name(#name)))

std::string error;

// The result of some work; 0 and a line of text where it fails.
template <typename Work>
auto result_of(const Work& work) -> decltype(work()) {
    try {
        error.clear();
        return work();
    } catch (...) {
        error = current_error().what();
    }
    return {};
}

// Sizes are counted in 32 bits here: of so many pixels no tensor passes 2^31 bytes.
constexpr uint64_t kMostPixels = 50'000'000;

// A copy that basic_free frees; *size becomes its size.
uint8_t* copied(const std::vector<uint8_t>& bytes, size_t* size) {
    auto* const data = static_cast<uint8_t*>(std::malloc(bytes.size()));
    if (data == nullptr) throw std::bad_alloc();
    std::copy(bytes.begin(), bytes.end(), data);
    *size = bytes.size();
    return data;
}

struct File {
    std::vector<uint8_t> bytes;
    Container container;
};

}  // namespace

BASIC_EXPORT(basic_allocate) void* allocate(size_t size) { return std::malloc(size); }
BASIC_EXPORT(basic_free) void free_memory(void* memory) { std::free(memory); }

// The line of text of what failed last, with a zero at its end; empty if it did not fail.
BASIC_EXPORT(basic_error) const char* error_line() { return error.c_str(); }

BASIC_EXPORT(basic_model_new) Model* model_new(const uint8_t* bytes, size_t size) {
    return result_of([&] { return new Model({bytes, size}, 1); });
}
BASIC_EXPORT(basic_model_delete) void model_delete(Model* model) { delete model; }

BASIC_EXPORT(basic_file_new) File* file_new(const uint8_t* bytes, size_t size) {
    return result_of([&] {
        auto file = std::make_unique<File>();
        file->bytes.assign(bytes, bytes + size);
        file->container = read_container(file->bytes, kMostPixels);
        return file.release();
    });
}
BASIC_EXPORT(basic_file_delete) void file_delete(File* file) { delete file; }
BASIC_EXPORT(basic_file_width) uint32_t file_width(const File* file) { return file->container.header.width; }
BASIC_EXPORT(basic_file_height) uint32_t file_height(const File* file) { return file->container.header.height; }

// The payload of a chunk, whose type has four letters, or null; *size becomes that of the payload.
BASIC_EXPORT(basic_file_chunk) const uint8_t* file_chunk(const File* file, const char* type, size_t* size) {
    const auto chunk = file->container.chunk(std::string(type, 4).c_str());
    *size = chunk ? chunk->size() : 0;
    return chunk ? chunk->data() : nullptr;
}

// RGBA, all of it opaque, in memory for basic_free; null if it fails.
BASIC_EXPORT(basic_decode_rgba) uint8_t* decode_rgba(const Model* model, const File* file, int level) {
    return result_of([&]() -> uint8_t* {
        const Header& header = file->container.header;
        const size_t count = size_t{header.width} * header.height, colours = header.gray ? 1 : 3;
        auto* const rgba = static_cast<uint8_t*>(std::malloc(4 * count));
        if (rgba == nullptr) throw std::bad_alloc();
        std::unique_ptr<uint8_t, void (*)(void*)> kept(rgba, std::free);
        uint8_t* const pixels = rgba + (4 - colours) * count;  // at the end, from which they move to the front
        decode_pixels(*model, file->container, level, pixels);
        for (size_t k = 0; k < count; ++k) {
            uint8_t pixel[4] = {0, 0, 0, 255};
            for (size_t c = 0; c < 3; ++c) pixel[c] = pixels[k * colours + (colours == 1 ? 0 : c)];
            std::memcpy(rgba + 4 * k, pixel, 4);
        }
        return kept.release();
    });
}

// Puts alpha into RGBA: `raw` is what the zlib stream of the chunk holds, or one byte, the value of all of it. 1 if it
// fits.
BASIC_EXPORT(basic_put_alpha) int put_alpha(const File* file, const uint8_t* raw, size_t size, uint8_t* rgba) {
    return result_of([&] {
        const Header& header = file->container.header;
        const size_t count = size_t{header.width} * header.height;
        if (size != 1 && size != count + header.height)
            throw damaged("the alpha plane does not hold the bytes it should");
        const auto alpha = size == 1 ? std::vector<uint8_t>(count, *raw)
                                     : unfiltered_alpha({raw, raw + size}, header.width, header.height);
        for (size_t k = 0; k < count; ++k) rgba[4 * k + 3] = alpha[k];
        return 1;
    });
}

// What the payload of a chunk for the alpha of RGBA is to hold: one byte of a plane that has the same everywhere, or
// what a zlib stream is made of; null for one that is opaque.
BASIC_EXPORT(basic_take_alpha) uint8_t* take_alpha(const uint8_t* rgba, uint32_t width, uint32_t height, size_t* size) {
    return result_of([&]() -> uint8_t* {
        *size = 0;
        std::vector<uint8_t> alpha(size_t{width} * height);
        for (size_t k = 0; k < alpha.size(); ++k) alpha[k] = rgba[4 * k + 3];
        if (!is_constant(alpha)) return copied(filtered_alpha(alpha, width, height), size);
        return alpha[0] == 255 ? nullptr : copied({alpha[0]}, size);
    });
}

// A file of RGBA, with the payload of a chunk for its alpha if `alpha_size` is not 0; null if it fails. Pixels of which
// all have three equal colours are a gray picture.
BASIC_EXPORT(basic_encode_rgba)
uint8_t* encode_rgba(const Model* model, const uint8_t* rgba, uint32_t width, uint32_t height, int quality_step,
                     int level, int effort, const uint8_t* alpha, size_t alpha_size, size_t* size) {
    return result_of([&] {
        check_size(width, height, kMostPixels);
        const size_t count = size_t{width} * height;
        bool gray = true;
        for (size_t k = 0; k < count && gray; ++k)
            gray = rgba[4 * k] == rgba[4 * k + 1] && rgba[4 * k] == rgba[4 * k + 2];
        const size_t colours = gray ? 1 : 3;
        std::vector<uint8_t> pixels(count * colours);
        for (size_t k = 0; k < count; ++k) std::copy_n(rgba + 4 * k, colours, pixels.data() + k * colours);
        Chunks chunks;
        if (alpha_size > 0) chunks.emplace_back("ALPH", std::vector<uint8_t>(alpha, alpha + alpha_size));
        const basic::ConstPicture picture{pixels.data(), static_cast<ptrdiff_t>(width * colours), height, width,
                                          colours};
        return copied(encode(*model, picture, {quality_step, level, effort}, std::move(chunks)), size);
    });
}
