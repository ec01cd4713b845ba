// From float planes to the bytes of a picture and back, in one pass.
#pragma once

#include <cstddef>
#include <cstdint>

namespace basic {

// Three planes of rows x columns values in [0, 1]; strides in values.
template <typename Value>  // float, or const float
struct FloatPlanes {
    Value* data;
    ptrdiff_t plane_stride, row_stride;
    size_t rows, columns;
};

// pixels[row * row_stride + 3 * column + plane] = clamp(floor(255 value + 1/2), 0, 255), each operation rounded to
// float32; NaN becomes 0.
void to_pixels(const FloatPlanes<const float>& planes, uint8_t* pixels, ptrdiff_t row_stride);

// value = byte * float32(1 / 255), rounded to float32.
void from_pixels(const uint8_t* pixels, ptrdiff_t row_stride, const FloatPlanes<float>& planes);

}  // namespace basic
