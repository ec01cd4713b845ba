// The kernels in plain C++, for any number of lanes: the reference, and what the others use for few lanes and
// for what is left over from whole vectors. Static for the reason given in steps.hpp.
#pragma once

#include "basic/layout.hpp"
#include "steps.hpp"

namespace basic {

// Positions from begin on. Lists special symbols without a branch, which would be unpredictable.
template <typename T>
static inline size_t map_scalar(const RowTables& rows, const T* __restrict symbols,
                                const uint8_t* __restrict indexes, uint16_t* __restrict entries, size_t begin,
                                size_t count, uint16_t* __restrict special_at, size_t special) {
#pragma GCC unroll 4
    for (size_t i = begin; i < count; ++i) {
        const RowMap& map = rows.maps[indexes[i]];
        const uint32_t code = static_cast<uint32_t>(int32_t{symbols[i]}) - static_cast<uint32_t>(map.offset);
        const uint32_t limit = map.special;
        special_at[special] = static_cast<uint16_t>(i);
        special += code >= limit;
        entries[i] = static_cast<uint16_t>(map.base + (code < limit ? code : limit));
    }
    return special;
}

template <typename T>
static inline size_t unmap_scalar(const RowTables& rows, const uint8_t* __restrict indexes,
                                  const uint8_t* __restrict codes, T* __restrict out, size_t begin,
                                  size_t count, uint16_t* __restrict special_at, size_t special) {
#pragma GCC unroll 4
    for (size_t i = begin; i < count; ++i) {
        const uint8_t index = indexes[i];
        // Unsigned: the code of an escape may carry the sum past int32.
        out[i] = static_cast<T>(static_cast<uint32_t>(rows.maps[index].offset) + codes[i]);
        special_at[special] = static_cast<uint16_t>(i);
        special += codes[i] >= rows.special_code[index];
    }
    return special;
}

template <int kLanes>
static inline size_t encode_rounds(const EncodeEntry* __restrict entries, const uint16_t* __restrict codes,
                                   size_t rounds, uint32_t* states, uint16_t* __restrict words, size_t next) {
    constexpr int kBlock = kLanes < 8 ? kLanes : 8;  // lanes unrolled at a time
    uint32_t local[kLanes];
    std::memcpy(local, states, sizeof local);
    for (size_t i = rounds * kLanes; i > 0;) {
        i -= kLanes;
        for (int block = kLanes - kBlock; block >= 0; block -= kBlock) {
#pragma GCC unroll 8
            for (int lane = block + kBlock - 1; lane >= block; --lane)
                encode_one(local[lane], entries[codes[i + static_cast<size_t>(lane)]], words, next);
        }
    }
    std::memcpy(states, local, sizeof local);
    return next;
}

template <int kLanes>
static inline const uint8_t* decode_rounds(const uint32_t* __restrict slots,
                                           const uint8_t* __restrict indexes, uint8_t* __restrict codes,
                                           size_t rounds, uint32_t* states, const uint8_t* word,
                                           const uint8_t* words_end) {
    constexpr int kBlock = kLanes < 8 ? kLanes : 8;
    const auto words = static_cast<size_t>(words_end - word) / 2;
    uint32_t local[kLanes];
    std::memcpy(local, states, sizeof local);
    size_t next = 0;
    for (size_t i = 0; i < rounds * kLanes && next <= words; i += kLanes) {
        for (int block = 0; block < kLanes; block += kBlock) {
#pragma GCC unroll 8
            for (int lane = block; lane < block + kBlock; ++lane) {
                const size_t at = i + static_cast<size_t>(lane);
                codes[at] = decode_one(local[lane], slots, indexes[at]);
                take_word_if_low(local[lane], local[lane] << 16 | load_word(word + 2 * next), next);
            }
        }
    }
    std::memcpy(states, local, sizeof local);
    return word + 2 * next;
}

static inline size_t encode_scalar(const EncodeTables& tables, int lanes, const uint16_t* entries,
                                   size_t rounds, uint32_t* states, uint16_t* words, size_t next) {
    switch (lanes) {
        case 1:
            return encode_rounds<1>(tables.entries, entries, rounds, states, words, next);
        case 2:
            return encode_rounds<2>(tables.entries, entries, rounds, states, words, next);
        case 4:
            return encode_rounds<4>(tables.entries, entries, rounds, states, words, next);
        case 8:
            return encode_rounds<8>(tables.entries, entries, rounds, states, words, next);
        case 16:
            return encode_rounds<16>(tables.entries, entries, rounds, states, words, next);
        case 32:
            return encode_rounds<32>(tables.entries, entries, rounds, states, words, next);
        default:
            return encode_rounds<64>(tables.entries, entries, rounds, states, words, next);
    }
}

static inline const uint8_t* decode_scalar(const uint32_t* slots, int lanes, const uint8_t* indexes,
                                           uint8_t* codes, size_t rounds, uint32_t* states,
                                           const uint8_t* word, const uint8_t* words_end) {
    switch (lanes) {
        case 1:
            return decode_rounds<1>(slots, indexes, codes, rounds, states, word, words_end);
        case 2:
            return decode_rounds<2>(slots, indexes, codes, rounds, states, word, words_end);
        case 4:
            return decode_rounds<4>(slots, indexes, codes, rounds, states, word, words_end);
        case 8:
            return decode_rounds<8>(slots, indexes, codes, rounds, states, word, words_end);
        case 16:
            return decode_rounds<16>(slots, indexes, codes, rounds, states, word, words_end);
        case 32:
            return decode_rounds<32>(slots, indexes, codes, rounds, states, word, words_end);
        default:
            return decode_rounds<64>(slots, indexes, codes, rounds, states, word, words_end);
    }
}

template <typename T>
static size_t map_all_scalar(const RowTables& rows, const T* symbols, const uint8_t* indexes,
                             uint16_t* entries, size_t count, uint16_t* special_at) {
    return map_scalar(rows, symbols, indexes, entries, 0, count, special_at, 0);
}

template <typename T>
static size_t unmap_all_scalar(const RowTables& rows, const uint8_t* indexes, const uint8_t* codes, T* out,
                               size_t count, uint16_t* special_at) {
    return unmap_scalar(rows, indexes, codes, out, 0, count, special_at, 0);
}

}  // namespace basic
