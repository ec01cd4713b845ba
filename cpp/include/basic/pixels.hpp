// From float planes, or fixed-point patches, to the bytes of a picture and back, in one pass.
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

// Pixels as positions of `size` x `size`: patches[column][row of the patch][column of the patch][colour] = 2 byte - 255 of
// the `size` rows from `pixels` on.
void take_patches(const uint8_t* pixels, ptrdiff_t row_stride, size_t columns, size_t size, int16_t* patches);

// The way back, with the colours first: pixels[row * row_stride + 3 * column + colour] = clamp((255 value + 2^(bits - 1))
// >> bits, 0, 255) of patches[column][colour][row of the patch][column of the patch], `stride` values from a patch to the
// next. 1 <= bits <= 16, size <= kMaxPatch.
inline constexpr size_t kMaxPatch = 8;
void put_patches(const int16_t* patches, size_t stride, size_t columns, size_t size, int bits, uint8_t* pixels,
                 ptrdiff_t row_stride);

// How far a decoded picture is off: errors[column][colour][row of the patch][column of the patch] = floor(2^kErrorBits
// (255 v / 2^bits - byte) + 1/2) of patches as put_patches reads them, v bounded to what is shown, 0 to 2^bits, and of the
// bytes of pixels. Pixels beyond `inside` have no error. Returns the sum of their squares. kErrorBits <= bits <= 13.
inline constexpr int kErrorBits = 6;
struct Inside {
    size_t top, bottom, left, right;  // rows of a patch, columns of the picture
};
uint64_t take_errors(const int16_t* patches, size_t stride, size_t columns, size_t size, int bits, const uint8_t* pixels,
                     ptrdiff_t row_stride, const Inside& inside, int16_t* errors, size_t error_stride);

}  // namespace basic
