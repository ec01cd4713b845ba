// libFuzzer target: any bytes as a picture for basic-encode. What comes is a picture within bounds, or an Error.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "basic/checksum.hpp"
#include "errors.hpp"
#include "picture_input.hpp"

namespace {

using namespace basic::codec;

// The checksums of all chunks, if it is a PNG: behind wrong ones most of the input would never come.
std::vector<uint8_t> mended(std::vector<uint8_t> file) {
    if (file.empty() || file[0] != 0x89) return file;
    for (size_t at = 8; at + 12 <= file.size();) {
        size_t size = 0;
        for (size_t k = 0; k < 4; ++k) size = size << 8 | file[at + k];
        if (size > file.size() - at - 12) break;
        const uint32_t crc = basic::crc32({file.data() + at + 4, size + 4});
        for (size_t k = 0; k < 4; ++k) file[at + 8 + size + k] = static_cast<uint8_t>(crc >> 8 * (3 - k));
        at += 12 + size;
    }
    return file;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    constexpr uint64_t kMaxPixels = 1 << 18;
    try {
        const InputPicture picture = read_picture(mended({data, data + size}), kMaxPixels);
        const basic_picture view = picture.view();
        const size_t bytes = size_t{view.width} * view.height * view.channels;
        if (view.width == 0 || view.height == 0 || view.channels < 1 || view.channels > 4 ||
            uint64_t{view.width} * view.height > kMaxPixels || picture.pixels.size() - picture.first < bytes)
            std::abort();
        uint8_t sum = 0;  // all of its bytes are there
        for (size_t k = 0; k < bytes; ++k) sum = static_cast<uint8_t>(sum + view.pixels[k]);
        static volatile uint8_t kept;
        kept = sum;
    } catch (const Error&) {
    }
    return 0;
}
