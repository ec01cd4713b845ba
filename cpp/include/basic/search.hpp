// What an encoder that searches for better latents does to each element (basic_runtime/refine.py): element by element, each
// operation rounded once to float32, so that all machines choose alike.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace basic {

// What symbols cost: bits[row * (2 * largest + 1) + largest + symbol] for symbols of up to `largest`; larger ones count as
// these.
struct SymbolBits {
    const float* bits;
    size_t rows;
    int32_t largest;

    float of(size_t row, int32_t symbol) const {
        const int32_t bounded = symbol < -largest ? -largest : symbol > largest ? largest : symbol;
        return bits[static_cast<ptrdiff_t>(row) * (2 * largest + 1) + largest + bounded];
    }
};

// The bits of all symbols together: exact, if those of each are multiples of 2^-12 and below 2^12.
// Throws std::invalid_argument for an index that is no row.
double symbol_bits(std::span<const int32_t> symbols, std::span<const uint8_t> indexes, const SymbolBits& table,
                   size_t threads);

// Numbers in [0, 1) by key and salt: Wellons' "lowbias32" hash (https://nullprogram.com/blog/2018/07/31/).
inline float random_of(uint32_t key, uint32_t salt) {
    uint32_t x = key + 0x9E3779B9u * (salt + 2u);
    x = (x ^ (x >> 16)) * 0x7FEB352Du;
    x = (x ^ (x >> 15)) * 0x846CA68Bu;
    return static_cast<float>((x ^ (x >> 16)) >> 8) * 0x1p-24f;
}

// A latent's elements, of one length each: what they are coded as, the derivative of the error by each, and a number that
// chance goes by.
struct SearchElements {
    std::span<const int32_t> symbols;
    std::span<const uint8_t> indexes;
    std::span<const float> slope;
    std::span<const uint32_t> keys;
};

struct SearchRules {
    float weight;   // bits that one more error is worth
    float caution;  // times the curvature: what a step adds to the error beside its slope, in bits
    float stiffer;  // times the curvature of elements that want to go back
    float share;    // of the elements that want to move: those that do
    uint32_t salt;
};

// steps[k] = -1, 0 or 1: where an element moves, as that saves more bits than it costs, with the curvature of each in bits.
// Keeps the last move of each in `moves`, and makes the curvature of those stiffer that want to go back.
// Throws std::invalid_argument for an index that is no row.
void search_moves(const SearchElements& elements, const SymbolBits& table, const SearchRules& rules,
                  std::span<float> curvature, std::span<int8_t> moves, std::span<int8_t> steps, size_t threads);

}  // namespace basic
