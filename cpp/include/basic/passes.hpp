// Fused element-wise passes of the entropy path: one read and one write of each array, no temporaries.
//
// Means and reconstructions are integers carried in float32, in units of 2^-mean_bits. All results are exact,
// so encoder and decoder agree bit for bit on every machine.
#pragma once

#include <cstdint>
#include <span>

namespace basic {

inline constexpr int kMaxMeanBits = 16;
inline constexpr int32_t kMeanLimit = 1 << 23;  // |mean| must stay below
inline constexpr int32_t kSymbolLimit = 1 << 20;

// Largest magnitude of a symbol: keeps |symbol * 2^mean_bits| <= 2^23, hence |yhat| < 2^24 exact in float32.
constexpr int32_t symbol_limit(int mean_bits) {
    const int32_t limit = kMeanLimit >> mean_bits;
    return limit < kSymbolLimit ? limit : kSymbolLimit;
}

// symbol = floor(y - mean * 2^-mean_bits + 1/2), clamped to +-symbol_limit(mean_bits);
// index = lut[clamp(scale, 0, size - 1)]; yhat = symbol * 2^mean_bits + mean.
// Throws std::invalid_argument if y is not finite, or mean or scale not an integer of float32 in range.
void quantise(std::span<const float> y, std::span<const float> mean, std::span<const float> scale,
              std::span<const uint8_t> lut, int mean_bits, std::span<int32_t> symbols,
              std::span<uint8_t> indexes, std::span<float> yhat);

// index = lut[clamp(scale, 0, size - 1)]. Throws std::invalid_argument if a scale is not an integer.
void indexes_from_scale(std::span<const float> scale, std::span<const uint8_t> lut,
                        std::span<uint8_t> indexes);

// yhat = symbol * 2^mean_bits + mean. Throws StreamError for a symbol no encoder writes (beyond
// symbol_limit), std::invalid_argument for a mean that is not an integer in range.
void dequantise(std::span<const int32_t> symbols, std::span<const float> mean, int mean_bits,
                std::span<float> yhat);

// The largest byte, 0 for none.
uint8_t largest(std::span<const uint8_t> bytes);

}  // namespace basic
