// Written for auto-vectorisation on any target, as passes.cpp.
#include "basic/pixels.hpp"

#include <algorithm>

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

BASIC_VECTORISED
void take_patches(const uint8_t* pixels, ptrdiff_t row_stride, size_t columns, size_t size, const int16_t* table,
                  int16_t* patches) {
    const size_t across = 3 * size;
    for (size_t row = 0; row < size; ++row) {
        const uint8_t* in = pixels + static_cast<ptrdiff_t>(row) * row_stride;
        int16_t* out = patches + row * across;
        for (size_t column = 0; column < columns; ++column, in += across, out += size * across)
            for (size_t k = 0; k < across; ++k) out[k] = table[in[k]];
    }
}

BASIC_VECTORISED
void put_patches(const int16_t* patches, size_t stride, size_t columns, size_t size, int bits, uint8_t* pixels,
                 ptrdiff_t row_stride) {
    const size_t area = size * size;
    const int32_t half = 1 << (bits - 1);
    uint8_t bytes[3 * kMaxPatch * kMaxPatch];
    for (size_t column = 0; column < columns; ++column, patches += stride, pixels += 3 * size) {
        for (size_t k = 0; k < 3 * area; ++k)
            bytes[k] = static_cast<uint8_t>(std::clamp((patches[k] * 255 + half) >> bits, 0, 255));
        for (size_t row = 0; row < size; ++row) {
            uint8_t* out = pixels + static_cast<ptrdiff_t>(row) * row_stride;
            for (size_t k = 0; k < size; ++k)
                for (size_t colour = 0; colour < 3; ++colour)
                    out[3 * k + colour] = bytes[colour * area + row * size + k];
        }
    }
}

}  // namespace basic
