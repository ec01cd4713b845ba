// The loops of Dots over blocks of positions and vectors, for an instruction set given as a class of operations.
//
// Vector holds `kLanes` int32 sums, and as many pairs of int16. A block of kPositions x kVectors sums stays in
// registers while it runs over the channels of the input: each pair of weights is read once for all positions, and
// each pair of inputs once for all vectors.
#pragma once

#include "basic/dots.hpp"
#include "unrolled.hpp"

namespace basic {

template <typename Set, int kVectors>
void accumulate_blocks(const int16_t* input, size_t stride, size_t pairs, const int16_t* weights, const uint32_t* at,
                       size_t positions, int32_t* sums) {
    using Vector = typename Set::Vector;
    constexpr int kLanes = Set::kLanes, kPositions = Set::kPositions;
    for (size_t first = 0; first < positions; first += kPositions, sums += size_t{kPositions} * kVectors * kLanes) {
        const int16_t* rows[kPositions];
        unrolled<kPositions>([&](int p) BASIC_ALWAYS_INLINE { rows[p] = input + at[first + p] * stride; });
        Vector block[kPositions][kVectors];
        unrolled<kPositions * kVectors>([&](int k) BASIC_ALWAYS_INLINE {
            block[k / kVectors][k % kVectors] = Set::load(sums + k * kLanes);
        });
        const int16_t* weight = weights;
        for (size_t pair = 0; pair < pairs; ++pair, weight += 2 * kVectors * kLanes) {
            Vector columns[kVectors];
            unrolled<kVectors>(
                [&](int v) BASIC_ALWAYS_INLINE { columns[v] = Set::load_pairs(weight + v * 2 * kLanes); });
            unrolled<kPositions>([&](int p) BASIC_ALWAYS_INLINE {
                const Vector value = Set::repeat_pair(rows[p] + 2 * pair);
                unrolled<kVectors>(
                    [&](int v) BASIC_ALWAYS_INLINE { block[p][v] = Set::dot(block[p][v], value, columns[v]); });
            });
        }
        unrolled<kPositions * kVectors>([&](int k) BASIC_ALWAYS_INLINE {
            Set::store(sums + k * kLanes, block[k / kVectors][k % kVectors]);
        });
    }
}

template <typename Set>
void accumulate(const int16_t* input, size_t stride, size_t pairs, const int16_t* weights, const uint32_t* at,
                size_t positions, size_t vectors, int32_t* sums) {
    static_assert(Set::kVectors == 4 || Set::kVectors == 2);
    if constexpr (Set::kVectors == 4) {
        if (vectors == 4) return accumulate_blocks<Set, 4>(input, stride, pairs, weights, at, positions, sums);
        if (vectors == 3) return accumulate_blocks<Set, 3>(input, stride, pairs, weights, at, positions, sums);
    }
    if (vectors == 2) return accumulate_blocks<Set, 2>(input, stride, pairs, weights, at, positions, sums);
    accumulate_blocks<Set, 1>(input, stride, pairs, weights, at, positions, sums);
}

template <typename Set>
void add(const int16_t* input, size_t stride, const int32_t* shift, const uint32_t* at, size_t positions,
         size_t vectors, int32_t* sums) {
    constexpr size_t kLanes = Set::kLanes;
    for (size_t p = 0; p < positions; ++p) {
        const int16_t* row = input + at[p] * stride;
        for (size_t c = 0; c < vectors * kLanes; c += kLanes, sums += kLanes)
            Set::store(sums, Set::add(Set::load(sums), Set::shift_left(Set::load_wide(row + c), shift + c)));
    }
}

template <typename Set, typename Output>
void requantise(const int32_t* sums, size_t positions, size_t vectors, const Requantisation& how, Output* outputs) {
    constexpr size_t kLanes = Set::kLanes;
    for (size_t p = 0; p < positions; ++p)
        for (size_t c = 0; c < vectors * kLanes; c += kLanes, sums += kLanes, outputs += kLanes) {
            auto value = Set::shift_right(Set::load(sums), how.shift + c);
            if (how.leak) value = Set::leak(value);
            value = Set::clamp(value, how.low + c, how.high + c);
            if constexpr (sizeof(Output) == sizeof(int32_t))
                Set::store(outputs, value);
            else
                Set::store_narrow(outputs, value);
        }
}

template <typename Set>
constexpr Dots dots_of(const char* name) {
    return {name, Set::kLanes, Set::kVectors, Set::kPositions, &add<Set>, &accumulate<Set>,
            &requantise<Set, int16_t>, &requantise<Set, int32_t>};
}

}  // namespace basic
