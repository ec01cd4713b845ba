// The loops of Dots over blocks of positions and vectors, for an instruction set given as a class of operations.
//
// Vector holds `kLanes` int32 sums, and as many pairs of int16. A block of kPositions x kVectors sums stays in
// registers while it runs over the channels of the input: each pair of weights is read once for all positions, and
// each pair of inputs once for all vectors.
#pragma once

#include <algorithm>
#include <array>

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

// What a gate lets through at the position `at`, of outputs from the block's channel `c` on.
template <typename Set>
inline BASIC_ALWAYS_INLINE typename Set::Vector gated(typename Set::Vector value, const DotsGate& gate, uint32_t at,
                                                       ptrdiff_t c) {
    return gate.values == nullptr ? value : Set::where_positive(value, gate.values + at * gate.stride + c);
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
            const auto value = requantised<Set>(block[p][v], finish.how, v * kLanes);
            Set::store_narrow(out + v * kLanes,
                              gated<Set>(value, finish.gate, finish.at[first + static_cast<size_t>(p)], v * kLanes));
        });
    });
}

template <typename Set, int kVectors>
void accumulate_blocks(const DotsTap* taps, size_t count, const int16_t* weights, const int32_t* bias,
                       const uint32_t* at, size_t positions, int32_t* sums, const DotsFinish* finish) {
    using Vector = typename Set::Vector;
    constexpr int kLanes = Set::kLanes, kPositions = Set::kPositions;
    constexpr size_t kPair = 2 * kVectors * kLanes;
    const auto add = [](Vector (&block)[kPositions][kVectors], const int16_t* const (&rows)[kPositions], size_t pair,
                        const int16_t* weight) BASIC_ALWAYS_INLINE {
        Vector columns[kVectors];
        unrolled<kVectors>([&](int v) BASIC_ALWAYS_INLINE { columns[v] = Set::load_pairs(weight + v * 2 * kLanes); });
        unrolled<kPositions>([&](int p) BASIC_ALWAYS_INLINE {
            const Vector value = Set::repeat_pair(rows[p] + 2 * pair);
            unrolled<kVectors>([&](int v) BASIC_ALWAYS_INLINE { block[p][v] = Set::dot(block[p][v], value, columns[v]); });
        });
    };
    for (size_t first = 0; first < positions; first += kPositions, sums += size_t{kPositions} * kVectors * kLanes) {
        Vector block[kPositions][kVectors];
        unrolled<kPositions * kVectors>([&](int k) BASIC_ALWAYS_INLINE {
            block[k / kVectors][k % kVectors] =
                Set::load(bias != nullptr ? bias + k % kVectors * kLanes : sums + k * kLanes);
        });
        Vector others[kPositions][1];  // sums of one vector would wait for each other: every other pair has its own
        if constexpr (kVectors == 1)
            unrolled<kPositions>([&](int p) BASIC_ALWAYS_INLINE { others[p][0] = Set::sub(block[p][0], block[p][0]); });
        const int16_t* weight = weights;
        for (size_t t = 0; t < count; ++t) {
            const int16_t* rows[kPositions];
            unrolled<kPositions>(
                [&](int p) BASIC_ALWAYS_INLINE { rows[p] = taps[t].input + at[first + p] * taps[t].stride; });
            size_t pair = 0;
            if constexpr (kVectors == 1)
                for (; pair + 2 <= taps[t].pairs; pair += 2, weight += 2 * kPair) {
                    add(block, rows, pair, weight);
                    add(others, rows, pair + 1, weight + kPair);
                }
            for (; pair < taps[t].pairs; ++pair, weight += kPair) add(block, rows, pair, weight);
        }
        if constexpr (kVectors == 1)
            unrolled<kPositions>([&](int p) BASIC_ALWAYS_INLINE { block[p][0] = Set::add(block[p][0], others[p][0]); });
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

// Of four values along a row or column, their four points.
template <typename Set>
inline BASIC_ALWAYS_INLINE void four_points(const typename Set::Values* values, typename Set::Values* points, int step) {
    points[0] = Set::sub_values(values[0], values[2 * step]);
    points[step] = Set::add_values(values[step], values[2 * step]);
    points[2 * step] = Set::sub_values(values[2 * step], values[step]);
    points[3 * step] = Set::sub_values(values[step], values[3 * step]);
}

template <typename Set, ValuePart kPart>
void read_parts_of_squares(const Squares& squares, int16_t* points, size_t apart, int16_t* least, int16_t* most) {
    using Values = typename Set::Values;
    constexpr size_t kValues = Set::kValues;
    const size_t row = squares.row, stride = squares.stride, channels = squares.channels;
    for (size_t k = 0; k < squares.count; ++k, points += channels)
        for (size_t next = 0; next < channels; next += kValues) {
            const size_t c = std::min(next, channels - kValues);  // the last ones may be some of those before, again
            const int16_t* from = squares.values + squares.at[k] * stride + c;
            Values square[kSquarePoints], half[kSquarePoints], found[kSquarePoints];
            Values low = Set::load_values(least + c), high = Set::load_values(most + c);
            unrolled<kSquarePoints>([&](int p) BASIC_ALWAYS_INLINE {
                const size_t down = static_cast<size_t>(p / 4), right = static_cast<size_t>(p % 4);
                Values value = Set::load_values(from + down * row + right * stride);
                if constexpr (kPart == ValuePart::high) value = Set::high_part(value);
                if constexpr (kPart == ValuePart::low) value = Set::low_part(value);
                low = Set::least(low, value), high = Set::most(high, value), square[p] = value;
            });
            Set::store_values(least + c, low), Set::store_values(most + c, high);
            unrolled<4>([&](int p) BASIC_ALWAYS_INLINE { four_points<Set>(square + p, half + p, 4); });
            unrolled<4>([&](int p) BASIC_ALWAYS_INLINE { four_points<Set>(half + 4 * p, found + 4 * p, 1); });
            unrolled<kSquarePoints>([&](int p) BASIC_ALWAYS_INLINE {
                Set::store_values(points + static_cast<size_t>(p) * apart + c, found[p]);
            });
        }
}

template <typename Set>
void read_squares(const Squares& squares, ValuePart part, int16_t* points, size_t apart, int16_t* least, int16_t* most) {
    const auto read = part == ValuePart::whole  ? &read_parts_of_squares<Set, ValuePart::whole>
                      : part == ValuePart::high ? &read_parts_of_squares<Set, ValuePart::high>
                                                : &read_parts_of_squares<Set, ValuePart::low>;
    read(squares, points, apart, least, most);
}

// Of four sums along a row or column of points, those of the two positions.
template <typename Set>
inline BASIC_ALWAYS_INLINE void two_of_four(const typename Set::Vector* points, int step, typename Set::Vector* two,
                                            int apart) {
    two[0] = Set::add(Set::add(points[0], points[step]), points[2 * step]);
    two[apart] = Set::sub(Set::sub(points[step], points[2 * step]), points[3 * step]);
}

// Four times the sums of a square's positions.
template <typename Set>
inline BASIC_ALWAYS_INLINE void sums_of_points(const int32_t* points, size_t apart, typename Set::Vector* four) {
    typename Set::Vector found[kSquarePoints], half[8];
    unrolled<kSquarePoints>([&](int k) BASIC_ALWAYS_INLINE { found[k] = Set::load(points + static_cast<size_t>(k) * apart); });
    unrolled<4>([&](int k) BASIC_ALWAYS_INLINE { two_of_four<Set>(found + k, 4, half + k, 4); });
    unrolled<2>([&](int k) BASIC_ALWAYS_INLINE { two_of_four<Set>(half + 4 * k, 1, four + 2 * k, 1); });
}

template <typename Set>
void finish_squares(const int32_t* sums, const int32_t* low, size_t apart, size_t squares, size_t vectors,
                    const int32_t* bias, const DotsFinish& finish) {
    using Vector = typename Set::Vector;
    constexpr size_t kLanes = Set::kLanes;
    alignas(64) static constexpr auto kTwo = [] {
        std::array<int32_t, Set::kLanes> shifts{};
        shifts.fill(2);
        return shifts;
    }();
    for (size_t square = 0; square < squares; ++square)
        for (size_t c = 0; c < vectors * kLanes; c += kLanes, sums += kLanes) {
            Vector four[4], rest[4];
            sums_of_points<Set>(sums, apart, four);
            if (low != nullptr) {
                sums_of_points<Set>(low + (square * vectors * kLanes + c), apart, rest);
                unrolled<4>([&](int k) BASIC_ALWAYS_INLINE {  // four times those of high parts count, even if they wrap
                    four[k] = Set::add(four[k], Set::shift_right(rest[k], kTwo.data()));
                });
            } else {
                unrolled<4>([&](int k) BASIC_ALWAYS_INLINE { four[k] = Set::shift_right(four[k], kTwo.data()); });
            }
            unrolled<4>([&](int k) BASIC_ALWAYS_INLINE {
                const size_t p = 4 * square + static_cast<size_t>(3 - k);
                const auto value = requantised<Set>(Set::add(four[3 - k], Set::load(bias + c)), finish.how,
                                                    static_cast<ptrdiff_t>(c));
                Set::store_narrow(finish.outputs + finish.to[p] * finish.stride + c,
                                  gated<Set>(value, finish.gate, finish.at[p], static_cast<ptrdiff_t>(c)));
            });
        }
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

// Bytes of weights that stay in the second cache. Less of them saves no time by the first cache, as they are read in order,
// and costs some, as sums are then read and written more often.
inline constexpr size_t kWeightBytes = 64 << 10;

template <typename Set>
constexpr Dots dots_of(const char* name, decltype(Dots::accumulate) sum = &accumulate<Set>) {
    return {.name = name,
            .lanes = Set::kLanes,
            .vectors = Set::kVectors,
            .positions = Set::kPositions,
            .weight_bytes = kWeightBytes,
            .small = nullptr,
            .is_small = nullptr,
            .packed = nullptr,
            .pack = nullptr,
            .accumulate = sum,
            .read_squares = &read_squares<Set>,
            .values = Set::kValues,
            .finish_squares = &finish_squares<Set>,
            .requantise = &requantise<Set, int16_t>,
            .requantise_wide = &requantise<Set, int32_t>};
}

}  // namespace basic
