// AVX2 (with BMI2): 8 lanes to a vector, up to eight independent vectors. Words move between stream and lanes
// by byte shuffles, looked up by the mask of the lanes that give or take one.
#include <immintrin.h>

#include "kernel_list.hpp"
#include "kernels_scalar.hpp"

namespace basic {
namespace {

constexpr int kWidth = 8;
constexpr uint8_t kZero = 0x80;  // a shuffle's index for a zero byte

// By mask of 8 lanes, lowest bit first.
struct Shuffles {
    alignas(16) uint8_t give[256][16];  // words of the set lanes, moved to the end
    alignas(16) uint8_t take[256][16];  // the next word for each set lane
    alignas(8) uint8_t set[256][8];     // numbers of the set lanes, moved to the front
};

constexpr Shuffles make_shuffles() {
    Shuffles shuffles{};
    for (int mask = 0; mask < 256; ++mask) {
        int count = 0;
        for (int lane = 0; lane < 8; ++lane) count += mask >> lane & 1;
        int before = 0;
        for (int lane = 0; lane < 8; ++lane) {
            const bool is_set = mask >> lane & 1;
            for (int byte = 0; byte < 2; ++byte) {
                shuffles.take[mask][2 * lane + byte] =
                    is_set ? static_cast<uint8_t>(2 * before + byte) : kZero;
                if (is_set)
                    shuffles.give[mask][2 * (8 - count + before) + byte] =
                        static_cast<uint8_t>(2 * lane + byte);
            }
            if (is_set) shuffles.set[mask][before++] = static_cast<uint8_t>(lane);
        }
    }
    return shuffles;
}

constexpr Shuffles kShuffles = make_shuffles();

inline __m128i load_shuffle(const uint8_t (&shuffle)[16]) {
    return _mm_load_si128(reinterpret_cast<const __m128i*>(shuffle));
}

inline __m256i load_states(const uint32_t* states) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(states));
}

inline void store_states(uint32_t* states, __m256i state) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(states), state);
}

inline unsigned mask_of(__m256i lanes) {
    return static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(lanes)));
}

// Two 64-bit elements.
inline __m128i load_two(const void* low, const void* high) {
    const __m128i one = _mm_loadl_epi64(static_cast<const __m128i*>(low));
    return _mm_castpd_si128(_mm_loadh_pd(_mm_castsi128_pd(one), static_cast<const double*>(high)));
}

inline __m256i join(__m128i low, __m128i high) {
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}

// The entries of every second of 8 symbols.
inline __m256i load_entries4(const PackedEntry* packed, const uint16_t* at) {
    return join(load_two(packed + at[0], packed + at[2]), load_two(packed + at[4], packed + at[6]));
}

// The low halves of 8 elements.
inline __m128i low_words(__m256i wide) {
    const __m256i pick = _mm256_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, -1, -1, -1, -1, -1, -1, -1, -1,  //
                                          0, 1, 4, 5, 8, 9, 12, 13, -1, -1, -1, -1, -1, -1, -1, -1);
    return _mm256_castsi256_si128(_mm256_permute4x64_epi64(_mm256_shuffle_epi8(wide, pick), 0x08));
}

// One symbol on each of 8 lanes.
inline __m256i encode_vector(__m256i state, const PackedEntry* packed, const uint16_t* at, uint16_t* words,
                             size_t& next) {
    constexpr int kOdd = 0xaa;
    const __m256i even = load_entries4(packed, at), odd = load_entries4(packed, at + 1);
    const __m256i both = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, kOdd);
    const __m256i freq = _mm256_and_si256(both, _mm256_set1_epi32(0xffff));
    const __m256i start = _mm256_srli_epi32(both, 16);
    const __m256i freq_less_1 = _mm256_sub_epi32(freq, _mm256_set1_epi32(1));

    const __m256i high = _mm256_cmpgt_epi32(_mm256_srli_epi32(state, 20), freq_less_1);
    const unsigned mask = mask_of(high);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(words + static_cast<ptrdiff_t>(next) - kWidth),
                     _mm_shuffle_epi8(low_words(state), load_shuffle(kShuffles.give[mask])));
    next -= static_cast<size_t>(_mm_popcnt_u32(mask));
    state = _mm256_blendv_epi8(state, _mm256_srli_epi32(state, 16), high);

    // floor(state / freq) or one less (see PackedEntry), and one correction
    const __m256i even_product = _mm256_mul_epu32(state, even);
    const __m256i odd_product = _mm256_mul_epu32(_mm256_srli_epi64(state, 32), odd);
    const __m256i quotient = _mm256_blend_epi32(_mm256_srli_epi64(even_product, 32), odd_product, kOdd);
    const __m256i remainder = _mm256_sub_epi32(state, _mm256_mullo_epi32(quotient, freq));
    const __m256i less = _mm256_cmpgt_epi32(remainder, freq_less_1);
    const __m256i moved =
        _mm256_add_epi32(_mm256_add_epi32(_mm256_slli_epi32(quotient, kProbBits), start), remainder);
    const __m256i complement = _mm256_sub_epi32(_mm256_set1_epi32(kProbTotal), freq);
    return _mm256_add_epi32(moved, _mm256_and_si256(less, complement));
}

template <int kVectors>
size_t encode_vectors(const PackedEntry* packed, const uint16_t* entries, size_t rounds, uint32_t* states,
                      uint16_t* words, size_t next) {
    __m256i state[kVectors];
    for (int v = 0; v < kVectors; ++v) state[v] = load_states(states + kWidth * v);
    while (rounds-- > 0) {
        const uint16_t* at = entries + rounds * kWidth * kVectors;
#pragma GCC unroll 8
        for (int v = kVectors - 1; v >= 0; --v)
            state[v] = encode_vector(state[v], packed, at + kWidth * v, words, next);
    }
    for (int v = 0; v < kVectors; ++v) store_states(states + kWidth * v, state[v]);
    return next;
}

size_t encode(const EncodeTables& tables, int lanes, const uint16_t* entries, size_t rounds, uint32_t* states,
              uint16_t* words, size_t next) {
    switch (lanes) {
        case 8:
            return encode_vectors<1>(tables.packed, entries, rounds, states, words, next);
        case 16:
            return encode_vectors<2>(tables.packed, entries, rounds, states, words, next);
        case 32:
            return encode_vectors<4>(tables.packed, entries, rounds, states, words, next);
        case 64:
            return encode_vectors<8>(tables.packed, entries, rounds, states, words, next);
        default:
            return encode_scalar(tables, lanes, entries, rounds, states, words, next);
    }
}

inline __m128i load_slots4(const uint32_t* slots, const uint32_t* at) {
    __m128i four = _mm_cvtsi32_si128(static_cast<int>(slots[at[0]]));
    four = _mm_insert_epi32(four, static_cast<int>(slots[at[1]]), 1);
    four = _mm_insert_epi32(four, static_cast<int>(slots[at[2]]), 2);
    return _mm_insert_epi32(four, static_cast<int>(slots[at[3]]), 3);
}

// The low bytes of 8 elements.
inline void store_codes(uint8_t* codes, __m256i slot) {
    const __m256i pick = _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,  //
                                          -1, -1, -1, -1, 0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1);
    const __m256i bytes = _mm256_shuffle_epi8(slot, pick);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(codes),
                     _mm_or_si128(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1)));
}

template <int kVectors>
const uint8_t* decode_vectors(const uint32_t* slots, const uint8_t* indexes, uint8_t* codes, size_t rounds,
                              uint32_t* states, const uint8_t* word, const uint8_t* words_end) {
    const __m256i twelve_bits = _mm256_set1_epi32(kProbTotal - 1);
    __m256i state[kVectors];
    for (int v = 0; v < kVectors; ++v) state[v] = load_states(states + kWidth * v);
    for (; rounds > 0 && word <= words_end; --rounds) {
        alignas(32) uint32_t at[kWidth * kVectors];
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) {
            const __m256i index =
                _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(indexes + kWidth * v)));
            store_states(at + kWidth * v, _mm256_or_si256(_mm256_and_si256(state[v], twelve_bits),
                                                          _mm256_slli_epi32(index, kProbBits)));
        }
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) {
            const uint32_t* a = at + kWidth * v;
            const __m256i slot = join(load_slots4(slots, a), load_slots4(slots, a + 4));
            store_codes(codes + kWidth * v, slot);
            const __m256i rank = _mm256_and_si256(_mm256_srli_epi32(slot, 8), twelve_bits);
            const __m256i moved = _mm256_add_epi32(
                rank,
                _mm256_mullo_epi32(_mm256_srli_epi32(slot, 20), _mm256_srli_epi32(state[v], kProbBits)));
            const __m256i low = _mm256_cmpeq_epi32(_mm256_srli_epi32(moved, 16), _mm256_setzero_si256());
            const unsigned mask = mask_of(low);
            const __m128i words = _mm_loadu_si128(reinterpret_cast<const __m128i*>(word));
            const __m256i taken =
                _mm256_cvtepu16_epi32(_mm_shuffle_epi8(words, load_shuffle(kShuffles.take[mask])));
            state[v] = _mm256_or_si256(_mm256_blendv_epi8(moved, _mm256_slli_epi32(moved, 16), low), taken);
            word += 2 * static_cast<size_t>(_mm_popcnt_u32(mask));
        }
        indexes += kWidth * kVectors;
        codes += kWidth * kVectors;
    }
    for (int v = 0; v < kVectors; ++v) store_states(states + kWidth * v, state[v]);
    return word;
}

const uint8_t* decode(const uint32_t* slots, int lanes, const uint8_t* indexes, uint8_t* codes, size_t rounds,
                      uint32_t* states, const uint8_t* word, const uint8_t* words_end) {
    switch (lanes) {
        case 8:
            return decode_vectors<1>(slots, indexes, codes, rounds, states, word, words_end);
        case 16:
            return decode_vectors<2>(slots, indexes, codes, rounds, states, word, words_end);
        case 32:
            return decode_vectors<4>(slots, indexes, codes, rounds, states, word, words_end);
        case 64:
            return decode_vectors<8>(slots, indexes, codes, rounds, states, word, words_end);
        default:
            return decode_scalar(slots, lanes, indexes, codes, rounds, states, word, words_end);
    }
}

inline __m256i load_symbols(const int32_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}

inline __m256i load_symbols(const int16_t* p) {
    return _mm256_cvtepi16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}

inline void store_symbols(int32_t* p, __m256i symbols) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), symbols);
}

inline void store_symbols(int16_t* p, __m256i symbols) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), low_words(symbols));
}

// The row maps of 8 symbols: offsets, and special | base << 16.
struct Rows8 {
    __m256i offset, rest;

    Rows8(const RowMap* maps, const uint8_t* at) {
        const __m256 low = _mm256_castsi256_ps(
            join(load_two(maps + at[0], maps + at[1]), load_two(maps + at[4], maps + at[5])));
        const __m256 high = _mm256_castsi256_ps(
            join(load_two(maps + at[2], maps + at[3]), load_two(maps + at[6], maps + at[7])));
        offset = _mm256_castps_si256(_mm256_shuffle_ps(low, high, 0x88));
        rest = _mm256_castps_si256(_mm256_shuffle_ps(low, high, 0xdd));
    }
    __m256i special() const { return _mm256_and_si256(rest, _mm256_set1_epi32(0xffff)); }
    __m256i base() const { return _mm256_srli_epi32(rest, 16); }
};

// Appends begin + the set positions of mask to the list, and returns its new length. Called for every vector:
// a branch around it would be mispredicted at most escapes.
inline size_t list_special(unsigned mask, size_t begin, uint16_t* special_at, size_t special) {
    const __m128i set =
        _mm_cvtepu8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(kShuffles.set[mask])));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(special_at + special),
                     _mm_add_epi16(set, _mm_set1_epi16(static_cast<int16_t>(begin))));
    return special + static_cast<size_t>(_mm_popcnt_u32(mask));
}

template <typename T>
size_t map(const RowTables& rows, const T* symbols, const uint8_t* indexes, uint16_t* entries, size_t count,
           uint16_t* special_at) {
    size_t i = 0, special = 0;
    for (; i + kWidth <= count; i += kWidth) {
        const Rows8 row(rows.maps, indexes + i);
        const __m256i code = _mm256_sub_epi32(load_symbols(symbols + i), row.offset);
        const __m256i limit = row.special(), clipped = _mm256_min_epu32(code, limit);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(entries + i),
                         low_words(_mm256_add_epi32(row.base(), clipped)));
        const unsigned beyond = mask_of(_mm256_cmpeq_epi32(clipped, limit));
        special = list_special(beyond, i, special_at, special);
    }
    return map_scalar(rows, symbols, indexes, entries, i, count, special_at, special);
}

template <typename T>
size_t unmap(const RowTables& rows, const uint8_t* indexes, const uint8_t* codes, T* out, size_t count,
             uint16_t* special_at) {
    const __m256i zero = _mm256_setzero_si256(), escape = _mm256_set1_epi32(kDecodedEscape);
    size_t i = 0, special = 0;
    for (; i + kWidth <= count; i += kWidth) {
        const Rows8 row(rows.maps, indexes + i);
        const __m256i code =
            _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes + i)));
        store_symbols(out + i, _mm256_add_epi32(code, row.offset));
        const unsigned beyond = mask_of(
            _mm256_or_si256(_mm256_cmpeq_epi32(code, escape), _mm256_cmpeq_epi32(row.special(), zero)));
        special = list_special(beyond, i, special_at, special);
    }
    return unmap_scalar(rows, indexes, codes, out, i, count, special_at, special);
}

}  // namespace

const Kernels kAvx2Kernels = {
    "avx2", map<int16_t>, map<int32_t>, encode, decode, unmap<int16_t>, unmap<int32_t>,
};

}  // namespace basic
