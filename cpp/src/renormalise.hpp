// The data-dependent step of both coders: move one 16-bit word between state and stream, or none.
//
// As a branch it would be mispredicted at every word, and gcc 12 makes a branch of most ways to write it, so
// x86-64 gets the three instructions by name. The portable versions compute the same.
#pragma once

#include <cstddef>
#include <cstdint>

#include "basic/layout.hpp"

namespace basic {

// Decoder: if state < kStateLow, state becomes refilled and next grows by one.
static inline void take_word_if_low(uint32_t& state, uint32_t refilled, size_t& next) {
#if defined(__x86_64__) && defined(__GNUC__)
    asm("cmpl %[limit], %[state]\n\t"
        "cmovb %[refilled], %[state]\n\t"
        "adcq $0, %[next]"
        : [state] "+r"(state), [next] "+r"(next)
        : [refilled] "r"(refilled), [limit] "i"(kStateLow)
        : "cc");
#else
    const uint32_t low = state < kStateLow;
    state ^= (state ^ refilled) & (0u - low);
    next += low;
#endif
}

// Encoder: if state >= limit, state loses its low 16 bits and next shrinks by one.
static inline void give_word_if_high(uint32_t& state, uint32_t limit, size_t& next) {
    const uint32_t shortened = state >> 16;
#if defined(__x86_64__) && defined(__GNUC__)
    asm("cmpl %[limit], %[state]\n\t"
        "cmovae %[shortened], %[state]\n\t"
        "adcq $-1, %[next]"
        : [state] "+r"(state), [next] "+r"(next)
        : [shortened] "r"(shortened), [limit] "rm"(limit)
        : "cc");
#else
    const uint32_t high = state >= limit;
    state ^= (state ^ shortened) & (0u - high);
    next -= high;
#endif
}

}  // namespace basic
