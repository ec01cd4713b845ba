// One symbol's arithmetic, in plain C++. Static, not inline: each file that is compiled for an instruction
// set of its own keeps its own copy.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "basic/layout.hpp"
#include "renormalise.hpp"

namespace basic {

static inline uint32_t load_word(const uint8_t* p) {
    if constexpr (std::endian::native == std::endian::big) return p[0] | uint32_t{p[1]} << 8;
    uint16_t word;
    std::memcpy(&word, p, sizeof word);
    return word;
}

// Words are written towards the front, because the decoder reads them in the opposite order: words[next - 1]
// is the next place. A word that is not needed is written too and overwritten later.
static inline void encode_one(uint32_t& state, const EncodeEntry& entry, uint16_t* words, size_t& next) {
    words[static_cast<ptrdiff_t>(next) - 1] = static_cast<uint16_t>(state);
    give_word_if_high(state, entry.limit, next);
    const auto quotient = static_cast<uint32_t>((state * entry.reciprocal) >> 44);
    state += quotient * entry.complement + entry.start;
}

// Without renormalisation: returns the code and moves the state.
static inline uint8_t decode_one(uint32_t& state, const uint32_t* slots, uint8_t index) {
    const uint32_t slot = slots[(uint32_t{index} << kProbBits) + (state & (kProbTotal - 1))];
    state = (slot >> 20) * (state >> kProbBits) + ((slot >> 8) & (kProbTotal - 1));
    return static_cast<uint8_t>(slot);
}

}  // namespace basic
