// Written for auto-vectorisation on any target: blocks of plain loops over arrays, comparisons as arithmetic.
#include "basic/passes.hpp"

#include <algorithm>
#include <stdexcept>

#include "basic/coder.hpp"
#include "vectorised.hpp"

namespace basic {
namespace {

constexpr size_t kBlock = 512;

void check_sizes(bool equal) {
    if (!equal) throw std::invalid_argument("arrays differ in size");
}

void check_mean_bits(int mean_bits) {
    if (mean_bits < 0 || mean_bits > kMaxMeanBits) throw std::invalid_argument("mean_bits must be 0 to 16");
}

void check_lut(std::span<const uint8_t> lut) {
    if (lut.empty() || lut.size() > (1u << 23))
        throw std::invalid_argument("index_lut must hold 1 to 2^23 entries");
}

// NaN becomes low, so the result always converts to an integer safely.
inline float clamped(float value, float low, float high) {
    value = value > low ? value : low;
    return value < high ? value : high;
}

// 1 if the mean is not an integer below the limit (NaN included).
inline int32_t is_bad_mean(float mean) {
    const float limit = kMeanLimit - 1;
    const float inside = clamped(mean, -limit, limit);
    return static_cast<float>(static_cast<int32_t>(inside)) != mean;
}

[[noreturn]] void refuse_mean() {
    throw std::invalid_argument("mean holds values that are not integers below 2^23 (NaN?)");
}

// Scale to position in the table; returns non-zero if some scale is not an integer (infinities pass by
// clamping).
BASIC_VECTORISED
int32_t clamp_scales(const float* scale, int32_t* position, size_t count, int32_t last) {
    int32_t bad = 0;
    for (size_t i = 0; i < count; ++i) {
        const float inside = clamped(scale[i], 0.0f, static_cast<float>(last));
        position[i] = static_cast<int32_t>(inside);
        bad |= static_cast<float>(position[i]) != inside;
        bad |= scale[i] != scale[i];
    }
    return bad;
}

void scale_block(const float* scale, std::span<const uint8_t> lut, uint8_t* indexes, size_t count) {
    int32_t position[kBlock];
    if (clamp_scales(scale, position, count, static_cast<int32_t>(lut.size()) - 1))
        throw std::invalid_argument("scale holds values that are not integers (NaN?)");
    for (size_t i = 0; i < count; ++i) indexes[i] = lut[static_cast<size_t>(position[i])];
}

// Returns 1 for a y that is not finite, 2 for a bad mean (or both).
BASIC_VECTORISED
int32_t quantise_block(const float* y, const float* mean, int32_t* symbols, float* yhat, size_t count,
                       int bits) {
    const auto up = static_cast<float>(1 << bits);
    const float down = 1.0f / up;
    const auto limit = static_cast<float>(symbol_limit(bits));
    int32_t bad_y = 0, bad_mean = 0;
    for (size_t i = 0; i < count; ++i) {
        bad_y |= !(y[i] - y[i] == 0.0f);  // NaN and infinity
        bad_mean |= is_bad_mean(mean[i]);
        const float residual = clamped((y[i] * up - mean[i]) * down + 0.5f, -limit, limit);
        const auto truncated = static_cast<int32_t>(residual);
        const int32_t symbol = truncated - (static_cast<float>(truncated) > residual);  // floor
        symbols[i] = symbol;
        yhat[i] = static_cast<float>(symbol) * up + mean[i];
    }
    return bad_y | bad_mean << 1;
}

// The same of symbols: 1 for a bad mean, 2 for a symbol that no encoder writes.
BASIC_VECTORISED
int32_t dequantise_block(const int32_t* symbols, const float* mean, float* yhat, size_t count, int bits) {
    const auto up = static_cast<float>(1 << bits);
    const int32_t limit = symbol_limit(bits);
    int32_t bad_mean = 0, bad_symbol = 0;
    for (size_t i = 0; i < count; ++i) {
        bad_mean |= is_bad_mean(mean[i]);
        bad_symbol |= symbols[i] > limit;
        bad_symbol |= symbols[i] < -limit;
        yhat[i] = static_cast<float>(symbols[i]) * up + mean[i];
    }
    return bad_mean | bad_symbol << 1;
}

}  // namespace

void quantise(std::span<const float> y, std::span<const float> mean, std::span<const float> scale,
              std::span<const uint8_t> lut, int mean_bits, std::span<int32_t> symbols,
              std::span<uint8_t> indexes, std::span<float> yhat) {
    const size_t size = y.size();
    check_sizes(mean.size() == size && scale.size() == size && symbols.size() == size &&
                indexes.size() == size && yhat.size() == size);
    check_mean_bits(mean_bits);
    check_lut(lut);
    for (size_t i = 0; i < size; i += kBlock) {
        const size_t count = std::min(kBlock, size - i);
        const int32_t bad = quantise_block(&y[i], &mean[i], &symbols[i], &yhat[i], count, mean_bits);
        if (bad & 1) throw std::invalid_argument("y holds NaN or infinity");
        if (bad & 2) refuse_mean();
        scale_block(&scale[i], lut, &indexes[i], count);
    }
}

void indexes_from_scale(std::span<const float> scale, std::span<const uint8_t> lut,
                        std::span<uint8_t> indexes) {
    check_sizes(scale.size() == indexes.size());
    check_lut(lut);
    for (size_t i = 0; i < scale.size(); i += kBlock)
        scale_block(&scale[i], lut, &indexes[i], std::min(kBlock, scale.size() - i));
}

void dequantise(std::span<const int32_t> symbols, std::span<const float> mean, int mean_bits,
                std::span<float> yhat) {
    check_sizes(symbols.size() == mean.size() && symbols.size() == yhat.size());
    check_mean_bits(mean_bits);
    const int32_t bad = dequantise_block(symbols.data(), mean.data(), yhat.data(), symbols.size(), mean_bits);
    if (bad & 1) refuse_mean();
    if (bad & 2) throw StreamError("coder stream: symbol beyond what an encoder writes");
}

uint8_t largest(std::span<const uint8_t> bytes) {
    uint8_t result = 0;
    for (const uint8_t byte : bytes) result = std::max(result, byte);
    return result;
}

}  // namespace basic
