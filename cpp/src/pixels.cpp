// Written for auto-vectorisation on any target, as passes.cpp.
#include "basic/pixels.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "unrolled.hpp"
#include "vectorised.hpp"

namespace basic {
namespace {

constexpr size_t kBlock = 512;

BASIC_VECTORISED
void round_block(const float* values, uint8_t* bytes, size_t count) {
    for (size_t i = 0; i < count; ++i) {
        float scaled = values[i] * 255.0f + 0.5f;
        scaled = scaled > 0.0f ? scaled : 0.0f;  // so does NaN
        scaled = scaled < 255.0f ? scaled : 255.0f;
        bytes[i] = static_cast<uint8_t>(static_cast<int32_t>(scaled));
    }
}

}  // namespace

void to_pixels(const FloatPlanes<const float>& planes, uint8_t* pixels, ptrdiff_t row_stride) {
    uint8_t bytes[3][kBlock];
    for (size_t row = 0; row < planes.rows; ++row) {
        const float* values = planes.data + static_cast<ptrdiff_t>(row) * planes.row_stride;
        uint8_t* out = pixels + static_cast<ptrdiff_t>(row) * row_stride;
        for (size_t column = 0; column < planes.columns; column += kBlock) {
            const size_t count = std::min(kBlock, planes.columns - column);
            for (ptrdiff_t plane = 0; plane < 3; ++plane)
                round_block(values + plane * planes.plane_stride + column, bytes[plane], count);
            for (size_t i = 0; i < count; ++i, out += 3) {
                out[0] = bytes[0][i];
                out[1] = bytes[1][i];
                out[2] = bytes[2][i];
            }
        }
    }
}

BASIC_VECTORISED
void from_pixels(const uint8_t* pixels, ptrdiff_t row_stride, const FloatPlanes<float>& planes) {
    uint8_t bytes[3][kBlock];
    for (size_t row = 0; row < planes.rows; ++row) {
        const uint8_t* in = pixels + static_cast<ptrdiff_t>(row) * row_stride;
        float* values = planes.data + static_cast<ptrdiff_t>(row) * planes.row_stride;
        for (size_t column = 0; column < planes.columns; column += kBlock) {
            const size_t count = std::min(kBlock, planes.columns - column);
            for (size_t i = 0; i < count; ++i, in += 3) {
                bytes[0][i] = in[0];
                bytes[1][i] = in[1];
                bytes[2][i] = in[2];
            }
            for (ptrdiff_t plane = 0; plane < 3; ++plane) {
                float* out = values + plane * planes.plane_stride + column;
                for (size_t i = 0; i < count; ++i) out[i] = static_cast<float>(bytes[plane][i]) * (1.0f / 255.0f);
            }
        }
    }
}

namespace {

// Rows of patches of known size: compilers vectorise loops of known lengths.
template <size_t kAcross>
inline BASIC_ALWAYS_INLINE void take_row(const uint8_t* in, size_t columns, size_t across, size_t apart, int16_t* out) {
    if constexpr (kAcross != 0) across = kAcross;
    for (size_t column = 0; column < columns; ++column, in += across, out += apart)
        for (size_t k = 0; k < across; ++k) out[k] = static_cast<int16_t>(2 * in[k] - 255);
}

// Pixels of four patches' rows, side by side: words of the four bytes of each colour, spread so that there is room for
// the others between them.
inline BASIC_ALWAYS_INLINE void put_four(const uint8_t* bytes, uint8_t* pixels, ptrdiff_t row_stride) {
    constexpr size_t kSide = 4;
    uint64_t front[kSide];   // two pixels and two colours of the third
    uint32_t behind[kSide];  // the rest
    for (size_t row = 0; row < kSide; ++row) {
        uint32_t red, green, blue;
        std::memcpy(&red, bytes + row * kSide, kSide);
        std::memcpy(&green, bytes + (kSide + row) * kSide, kSide);
        std::memcpy(&blue, bytes + (2 * kSide + row) * kSide, kSide);
        const auto spread = [](uint64_t word) {
            return (word & 0xff) | (word & 0xff00) << 16 | (word & 0xff0000) << 32;
        };
        front[row] = spread(red) | spread(green) << 8 | spread(blue) << 16;
        behind[row] = (blue >> 16 & 0xff) | (red >> 24) << 8 | (green >> 24) << 16 | (blue >> 24) << 24;
    }
    for (size_t row = 0; row < kSide; ++row, pixels += row_stride) {
        std::memcpy(pixels, &front[row], sizeof front[row]);
        std::memcpy(pixels + sizeof front[row], &behind[row], sizeof behind[row]);
    }
}

inline BASIC_ALWAYS_INLINE void put_any(const uint8_t* bytes, size_t size, uint8_t* pixels, ptrdiff_t row_stride) {
    for (size_t row = 0; row < size; ++row, pixels += row_stride)
        for (size_t k = 0; k < size; ++k)
            for (size_t colour = 0; colour < 3; ++colour)
                pixels[3 * k + colour] = bytes[(colour * size + row) * size + k];
}

template <size_t kSize>
inline BASIC_ALWAYS_INLINE void put_row(const int16_t* patches, size_t stride, size_t columns, size_t size, int bits,
                                        uint8_t* pixels, ptrdiff_t row_stride) {
    if constexpr (kSize != 0) size = kSize;
    const int32_t half = 1 << (bits - 1);
    uint8_t bytes[3 * kMaxPatch * kMaxPatch];
    for (size_t column = 0; column < columns; ++column, patches += stride, pixels += 3 * size) {
        for (size_t k = 0; k < 3 * size * size; ++k)
            bytes[k] = static_cast<uint8_t>(std::clamp((patches[k] * 255 + half) >> bits, 0, 255));
        if constexpr (kSize == 4 && std::endian::native == std::endian::little)
            put_four(bytes, pixels, row_stride);
        else
            put_any(bytes, size, pixels, row_stride);
    }
}

// The bytes of a patch as its values come, colours first.
template <size_t kSize>
inline BASIC_ALWAYS_INLINE void take_bytes(const uint8_t* pixels, ptrdiff_t row_stride, size_t size, uint8_t* bytes) {
    if constexpr (kSize != 0) size = kSize;
    for (size_t row = 0; row < size; ++row, pixels += row_stride)
        for (size_t k = 0; k < size; ++k)
            for (size_t colour = 0; colour < 3; ++colour) bytes[(colour * size + row) * size + k] = pixels[3 * k + colour];
}

// Errors of a patch that lies beyond the pixels that count, in part or whole, do not.
inline void drop_errors(const Inside& inside, size_t first_column, size_t size, int16_t* errors) {
    for (size_t row = 0; row < size; ++row)
        for (size_t k = 0; k < size; ++k) {
            const size_t column = first_column + k;
            const bool counts = inside.top <= row && row < inside.bottom && inside.left <= column && column < inside.right;
            for (size_t colour = 0; colour < 3 && !counts; ++colour) errors[(colour * size + row) * size + k] = 0;
        }
}

template <size_t kSize>
inline BASIC_ALWAYS_INLINE uint64_t take_errors_of(const int16_t* patches, size_t stride, size_t columns, size_t size,
                                                   int bits, const uint8_t* pixels, ptrdiff_t row_stride,
                                                   const Inside& inside, int16_t* errors, size_t error_stride) {
    if constexpr (kSize != 0) size = kSize;
    const size_t count = 3 * size * size;
    const int32_t white = 1 << bits, half = bits == kErrorBits ? 0 : 1 << (bits - kErrorBits - 1);
    const bool all_rows = inside.top == 0 && inside.bottom >= size;
    uint8_t bytes[3 * kMaxPatch * kMaxPatch];
    uint64_t sum = 0;
    for (size_t column = 0; column < columns; ++column, patches += stride, errors += error_stride, pixels += 3 * size) {
        take_bytes<kSize>(pixels, row_stride, size, bytes);
        for (size_t k = 0; k < count; ++k) {
            const int32_t shown = std::clamp<int32_t>(patches[k], 0, white);
            const int32_t off = (shown * 255 - (int32_t{bytes[k]} << bits) + half) >> (bits - kErrorBits);
            errors[k] = static_cast<int16_t>(off);
        }
        if (!all_rows || column * size < inside.left || (column + 1) * size > inside.right)
            drop_errors(inside, column * size, size, errors);
        uint64_t squares = 0;
        for (size_t k = 0; k < count; ++k) squares += static_cast<uint32_t>(int32_t{errors[k]} * errors[k]);
        sum += squares;
    }
    return sum;
}

}  // namespace

BASIC_VECTORISED
uint64_t take_errors(const int16_t* patches, size_t stride, size_t columns, size_t size, int bits, const uint8_t* pixels,
                     ptrdiff_t row_stride, const Inside& inside, int16_t* errors, size_t error_stride) {
    if (size == 4)
        return take_errors_of<4>(patches, stride, columns, size, bits, pixels, row_stride, inside, errors, error_stride);
    return take_errors_of<0>(patches, stride, columns, size, bits, pixels, row_stride, inside, errors, error_stride);
}

BASIC_VECTORISED
void take_patches(const uint8_t* pixels, ptrdiff_t row_stride, size_t columns, size_t size, int16_t* patches) {
    const size_t across = 3 * size;
    for (size_t row = 0; row < size; ++row, pixels += row_stride, patches += across) {
        if (size == 4)
            take_row<12>(pixels, columns, across, size * across, patches);
        else
            take_row<0>(pixels, columns, across, size * across, patches);
    }
}

BASIC_VECTORISED
void put_patches(const int16_t* patches, size_t stride, size_t columns, size_t size, int bits, uint8_t* pixels,
                 ptrdiff_t row_stride) {
    if (size == 4) return put_row<4>(patches, stride, columns, size, bits, pixels, row_stride);
    put_row<0>(patches, stride, columns, size, bits, pixels, row_stride);
}

}  // namespace basic
