// A loop of constant length without the loop. Compilers give up on unrolling bodies as long as the kernels',
// and would then keep the states of all lanes in memory.
#pragma once

#include <utility>

#define BASIC_ALWAYS_INLINE __attribute__((always_inline))

namespace basic {

// step(0), step(1) ... step(kCount - 1)
template <int kCount, typename Step>
BASIC_ALWAYS_INLINE static inline void unrolled(const Step& step) {
    [&]<int... k>(std::integer_sequence<int, k...>)
        BASIC_ALWAYS_INLINE { (step(k), ...); }(std::make_integer_sequence<int, kCount>());
}

}  // namespace basic
