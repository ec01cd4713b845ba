// From float planes to the bytes of a picture, in one pass.
#pragma once

#include <cstddef>
#include <cstdint>

namespace basic {

// Three planes of rows x columns values in [0, 1]; strides in values.
struct FloatPlanes {
    const float* data;
    ptrdiff_t plane_stride, row_stride;
    size_t rows, columns;
};

// pixels[row * row_stride + 3 * column + plane] = clamp(floor(255 value + 1/2), 0, 255), each operation rounded to
// float32; NaN becomes 0.
void to_pixels(const FloatPlanes& planes, uint8_t* pixels, ptrdiff_t row_stride);

}  // namespace basic
