// The loops of Dots over blocks of positions and vectors, for an instruction set given as a class of operations.
//
// Vector holds `kLanes` int32 sums, and as many pairs of int16. A block of kPositions x kVectors sums stays in
// registers while it runs over the channels of the input: each pair of weights is read once for all positions, and
// each pair of inputs once for all vectors.
#pragma once

#include "basic/dots.hpp"
#include "unrolled.hpp"

namespace basic {

// The sums of a vector's channels, which are the block's from `c` on, as they are kept.
template <typename Set>
inline BASIC_ALWAYS_INLINE typename Set::Vector requantised(typename Set::Vector sums, const Requantisation& how,
                                                             ptrdiff_t c) {
    auto value = Set::shift_right(sums, how.shift + c);
    if (how.leak) value = Set::leak(value);
    return Set::clamp(value, how.low + c, how.high + c);
}

// The sums of a block of positions from `first` on.
template <typename Set, int kVectors>
inline BASIC_ALWAYS_INLINE void finish_block(const DotsFinish& finish, size_t first,
                                             typename Set::Vector (&block)[Set::kPositions][kVectors]) {
    constexpr int kLanes = Set::kLanes, kPositions = Set::kPositions;
    for (size_t k = 0; k < finish.skip_count; ++k) {
        const DotsSkip& skip = finish.skips[k];
        unrolled<kPositions>([&](int p) BASIC_ALWAYS_INLINE {
            const int16_t* row = skip.values + finish.at[first + p] * skip.stride;
            unrolled<kVectors>([&](int v) BASIC_ALWAYS_INLINE {
                block[p][v] = Set::add(
                    block[p][v], Set::shift_left(Set::load_wide(row + v * kLanes), skip.shift + v * kLanes));
            });
        });
    }
    unrolled<kPositions>([&](int p) BASIC_ALWAYS_INLINE {
        int16_t* out = finish.outputs + finish.to[first + p] * finish.stride;
        unrolled<kVectors>([&](int v) BASIC_ALWAYS_INLINE {
            Set::store_narrow(out + v * kLanes, requantised<Set>(block[p][v], finish.how, v * kLanes));
        });
    });
}

template <typename Set, int kVectors>
void accumulate_blocks(const DotsTap* taps, size_t count, const int16_t* weights, const int32_t* bias,
                       const uint32_t* at, size_t positions, int32_t* sums, const DotsFinish* finish) {
    using Vector = typename Set::Vector;
    constexpr int kLanes = Set::kLanes, kPositions = Set::kPositions;
    for (size_t first = 0; first < positions; first += kPositions, sums += size_t{kPositions} * kVectors * kLanes) {
        Vector block[kPositions][kVectors];
        unrolled<kPositions * kVectors>([&](int k) BASIC_ALWAYS_INLINE {
            block[k / kVectors][k % kVectors] =
                Set::load(bias != nullptr ? bias + k % kVectors * kLanes : sums + k * kLanes);
        });
        const int16_t* weight = weights;
        for (size_t t = 0; t < count; ++t) {
            const int16_t* rows[kPositions];
            unrolled<kPositions>(
                [&](int p) BASIC_ALWAYS_INLINE { rows[p] = taps[t].input + at[first + p] * taps[t].stride; });
            for (size_t pair = 0; pair < taps[t].pairs; ++pair, weight += 2 * kVectors * kLanes) {
                Vector columns[kVectors];
                unrolled<kVectors>(
                    [&](int v) BASIC_ALWAYS_INLINE { columns[v] = Set::load_pairs(weight + v * 2 * kLanes); });
                unrolled<kPositions>([&](int p) BASIC_ALWAYS_INLINE {
                    const Vector value = Set::repeat_pair(rows[p] + 2 * pair);
                    unrolled<kVectors>(
                        [&](int v) BASIC_ALWAYS_INLINE { block[p][v] = Set::dot(block[p][v], value, columns[v]); });
                });
            }
        }
        if (finish != nullptr) {
            finish_block<Set, kVectors>(*finish, first, block);
            continue;
        }
        unrolled<kPositions * kVectors>([&](int k) BASIC_ALWAYS_INLINE {
            Set::store(sums + k * kLanes, block[k / kVectors][k % kVectors]);
        });
    }
}

template <typename Set>
void accumulate(const DotsTap* taps, size_t count, const int16_t* weights, const int32_t* bias, const uint32_t* at,
                size_t positions, size_t vectors, int32_t* sums, const DotsFinish* finish) {
    static_assert(Set::kVectors == 4 || Set::kVectors == 2);
    if constexpr (Set::kVectors == 4) {
        if (vectors == 4) return accumulate_blocks<Set, 4>(taps, count, weights, bias, at, positions, sums, finish);
        if (vectors == 3) return accumulate_blocks<Set, 3>(taps, count, weights, bias, at, positions, sums, finish);
    }
    if (vectors == 2) return accumulate_blocks<Set, 2>(taps, count, weights, bias, at, positions, sums, finish);
    accumulate_blocks<Set, 1>(taps, count, weights, bias, at, positions, sums, finish);
}

template <typename Set, typename Output>
void requantise(const int32_t* sums, size_t positions, size_t vectors, const Requantisation& how, Output* outputs) {
    constexpr size_t kLanes = Set::kLanes;
    for (size_t p = 0; p < positions; ++p)
        for (size_t c = 0; c < vectors * kLanes; c += kLanes, sums += kLanes, outputs += kLanes) {
            const auto value = requantised<Set>(Set::load(sums), how, static_cast<ptrdiff_t>(c));
            if constexpr (sizeof(Output) == sizeof(int32_t))
                Set::store(outputs, value);
            else
                Set::store_narrow(outputs, value);
        }
}

template <typename Set>
constexpr Dots dots_of(const char* name) {
    return {name, Set::kLanes, Set::kVectors, Set::kPositions, &accumulate<Set>, &requantise<Set, int16_t>,
            &requantise<Set, int32_t>};
}

}  // namespace basic
