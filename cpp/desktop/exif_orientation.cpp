#include "exif_orientation.hpp"

namespace basic {
namespace {

constexpr uint32_t kOrientation = 0x0112, kShort = 3;
constexpr size_t kHead = 8, kEntry = 12;  // bytes of the header, and of an entry of a directory

// A number of so many bytes; 0 beyond the end.
uint32_t number(std::span<const uint8_t> exif, size_t at, size_t bytes, bool big_endian) {
    if (at > exif.size() || bytes > exif.size() - at) return 0;
    uint32_t value = 0;
    for (size_t k = 0; k < bytes; ++k) value = value << 8 | exif[at + (big_endian ? k : bytes - 1 - k)];
    return value;
}

}  // namespace

int exif_orientation(std::span<const uint8_t> exif) {
    if (exif.size() < kHead) return 1;
    const bool big_endian = exif[0] == 'M';
    const size_t directory = number(exif, 4, 4, big_endian);
    const size_t entries = number(exif, directory, 2, big_endian);
    for (size_t k = 0; k < entries; ++k) {
        const size_t at = directory + 2 + k * kEntry;
        if (number(exif, at, 2, big_endian) != kOrientation || number(exif, at + 2, 2, big_endian) != kShort)
            continue;
        const uint32_t value = number(exif, at + 8, 2, big_endian);
        return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
    }
    return 1;
}

}  // namespace basic
