// AVX-512 (F, BW, VL, DQ): 16 lanes to a vector, up to four independent vectors.
//
// Tables are read by scalar loads put together: on Zen 4 and 5, and on Intel since the Downfall fix, that is
// faster than the gather instructions. Compressing stores are avoided too (microcode on Zen 4).
#include <immintrin.h>

#include "kernel_list.hpp"
#include "kernels_scalar.hpp"
#include "unrolled.hpp"

namespace basic {
namespace {

constexpr int kWidth = 16;

inline __m512i join(__m128i a, __m128i b, __m128i c, __m128i d) {
    const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1);
    const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(c), d, 1);
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

inline __m128i load_slots4(const uint32_t* slots, const uint32_t* at) {
    __m128i four = _mm_cvtsi32_si128(static_cast<int>(slots[at[0]]));
    four = _mm_insert_epi32(four, static_cast<int>(slots[at[1]]), 1);
    four = _mm_insert_epi32(four, static_cast<int>(slots[at[2]]), 2);
    return _mm_insert_epi32(four, static_cast<int>(slots[at[3]]), 3);
}

inline __m128i load_entries2(const PackedEntry* packed, uint16_t first, uint16_t second) {
    const __m128i low = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(packed + first));
    return _mm_castpd_si128(
        _mm_loadh_pd(_mm_castsi128_pd(low), reinterpret_cast<const double*>(packed + second)));
}

// The entries of every second of 16 symbols, one to a 64-bit element.
inline __m512i load_entries8(const PackedEntry* packed, const uint16_t* at) {
    return join(load_entries2(packed, at[0], at[2]), load_entries2(packed, at[4], at[6]),
                load_entries2(packed, at[8], at[10]), load_entries2(packed, at[12], at[14]));
}

// kRotate[count + j] = (count + j) % 16: the permutation that moves count elements to the end of 16.
alignas(64) constexpr uint16_t kRotate[32] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
                                              0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

// One symbol on each of 16 lanes.
inline __m512i encode_vector(__m512i state, const PackedEntry* packed, const uint16_t* at, uint16_t* words,
                             size_t& next) {
    constexpr __mmask16 kOdd = 0xaaaa;
    const __m512i even = load_entries8(packed, at), odd = load_entries8(packed, at + 1);
    const __m512i both = _mm512_mask_mov_epi32(_mm512_srli_epi64(even, 32), kOdd, odd);
    const __m512i freq = _mm512_and_epi32(both, _mm512_set1_epi32(0xffff));
    const __m512i start = _mm512_srli_epi32(both, 16);

    const __mmask16 high = _mm512_cmpge_epu32_mask(_mm512_srli_epi32(state, 20), freq);
    const auto count = static_cast<size_t>(_mm_popcnt_u32(high));
    const __m256i given = _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(high, state));
    const __m256i rotate = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kRotate + count));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(words + static_cast<ptrdiff_t>(next) - kWidth),
                        _mm256_permutexvar_epi16(rotate, given));
    next -= count;
    state = _mm512_mask_srli_epi32(state, high, state, 16);

    // floor(state / freq) or one less (see PackedEntry), and one correction
    const __m512i even_product = _mm512_mul_epu32(state, even);
    const __m512i odd_product = _mm512_mul_epu32(_mm512_srli_epi64(state, 32), odd);
    const __m512i quotient = _mm512_mask_mov_epi32(_mm512_srli_epi64(even_product, 32), kOdd, odd_product);
    const __m512i remainder = _mm512_sub_epi32(state, _mm512_mullo_epi32(quotient, freq));
    const __mmask16 less = _mm512_cmpge_epu32_mask(remainder, freq);
    const __m512i moved =
        _mm512_add_epi32(_mm512_add_epi32(_mm512_slli_epi32(quotient, kProbBits), start), remainder);
    const __m512i complement = _mm512_sub_epi32(_mm512_set1_epi32(kProbTotal), freq);
    return _mm512_mask_add_epi32(moved, less, moved, complement);
}

template <int kVectors>
size_t encode_vectors(const PackedEntry* packed, const uint16_t* entries, size_t rounds, uint32_t* states,
                      uint16_t* words, size_t next) {
    __m512i state[kVectors];
    for (int v = 0; v < kVectors; ++v) state[v] = _mm512_loadu_si512(states + kWidth * v);
    while (rounds-- > 0) {
        const uint16_t* at = entries + rounds * kWidth * kVectors;
        unrolled<kVectors>([&](int k) BASIC_ALWAYS_INLINE {
            const int v = kVectors - 1 - k;
            state[v] = encode_vector(state[v], packed, at + kWidth * v, words, next);
        });
    }
    for (int v = 0; v < kVectors; ++v) _mm512_storeu_si512(states + kWidth * v, state[v]);
    return next;
}

size_t encode(const EncodeTables& tables, int lanes, const uint16_t* entries, size_t rounds, uint32_t* states,
              uint16_t* words, size_t next) {
    switch (lanes) {
        case 16:
            return encode_vectors<1>(tables.packed, entries, rounds, states, words, next);
        case 32:
            return encode_vectors<2>(tables.packed, entries, rounds, states, words, next);
        case 64:
            return encode_vectors<4>(tables.packed, entries, rounds, states, words, next);
        default:
            return kAvx2Kernels.encode(tables, lanes, entries, rounds, states, words, next);
    }
}

template <int kVectors>
const uint8_t* decode_vectors(const uint32_t* slots, const uint8_t* indexes, uint8_t* codes, size_t rounds,
                              uint32_t* states, const uint8_t* word, const uint8_t* words_end) {
    const __m512i twelve_bits = _mm512_set1_epi32(kProbTotal - 1);
    __m512i state[kVectors];
    for (int v = 0; v < kVectors; ++v) state[v] = _mm512_loadu_si512(states + kWidth * v);
    for (; rounds > 0 && word <= words_end; --rounds) {
        alignas(64) uint32_t at[kWidth * kVectors];
        unrolled<kVectors>([&](int v) BASIC_ALWAYS_INLINE {
            const __m512i index =
                _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(indexes + kWidth * v)));
            _mm512_store_si512(at + kWidth * v, _mm512_or_epi32(_mm512_and_epi32(state[v], twelve_bits),
                                                                _mm512_slli_epi32(index, kProbBits)));
        });
        unrolled<kVectors>([&](int v) BASIC_ALWAYS_INLINE {
            const uint32_t* a = at + kWidth * v;
            const __m512i slot = join(load_slots4(slots, a), load_slots4(slots, a + 4),
                                      load_slots4(slots, a + 8), load_slots4(slots, a + 12));
            _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + kWidth * v), _mm512_cvtepi32_epi8(slot));
            const __m512i rank = _mm512_and_epi32(_mm512_srli_epi32(slot, 8), twelve_bits);
            const __m512i moved = _mm512_add_epi32(
                rank,
                _mm512_mullo_epi32(_mm512_srli_epi32(slot, 20), _mm512_srli_epi32(state[v], kProbBits)));
            const __mmask16 low = _mm512_cmplt_epu32_mask(moved, _mm512_set1_epi32(kStateLow));
            const __m512i words =
                _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(word)));
            const __m512i taken = _mm512_maskz_expand_epi32(low, words);
            state[v] = _mm512_mask_or_epi32(moved, low, _mm512_slli_epi32(moved, 16), taken);
            word += 2 * static_cast<size_t>(_mm_popcnt_u32(low));
        });
        indexes += kWidth * kVectors;
        codes += kWidth * kVectors;
    }
    for (int v = 0; v < kVectors; ++v) _mm512_storeu_si512(states + kWidth * v, state[v]);
    return word;
}

const uint8_t* decode(const uint32_t* slots, int lanes, const uint8_t* indexes, uint8_t* codes, size_t rounds,
                      uint32_t* states, const uint8_t* word, const uint8_t* words_end) {
    switch (lanes) {
        case 16:
            return decode_vectors<1>(slots, indexes, codes, rounds, states, word, words_end);
        case 32:
            return decode_vectors<2>(slots, indexes, codes, rounds, states, word, words_end);
        case 64:
            return decode_vectors<4>(slots, indexes, codes, rounds, states, word, words_end);
        default:
            return kAvx2Kernels.decode(slots, lanes, indexes, codes, rounds, states, word, words_end);
    }
}

// The rows that a stretch of symbols uses, if 64 rows from `first` on hold them all: two registers a column.
struct Window {
    bool fits;
    uint8_t first;
};

Window find_window(const RowTables& rows, const uint8_t* indexes, size_t count) {
    uint8_t lowest = 255, highest = 0;
    size_t i = 0;
    __m512i low = _mm512_set1_epi8(-1), high = _mm512_setzero_si512();
    for (; i + 64 <= count; i += 64) {
        const __m512i index = _mm512_loadu_si512(indexes + i);
        low = _mm512_min_epu8(low, index);
        high = _mm512_max_epu8(high, index);
    }
    alignas(64) uint8_t lows[64], highs[64];
    _mm512_store_si512(lows, low);
    _mm512_store_si512(highs, high);
    for (int k = 0; k < 64; ++k) {
        lowest = lows[k] < lowest ? lows[k] : lowest;
        highest = highs[k] > highest ? highs[k] : highest;
    }
    for (; i < count; ++i) {
        lowest = indexes[i] < lowest ? indexes[i] : lowest;
        highest = indexes[i] > highest ? indexes[i] : highest;
    }
    return {rows.narrow && highest - lowest < static_cast<int>(RowTables::kWindow), lowest};
}

struct Column {
    __m512i low, high;

    Column(const void* column, uint8_t first)
        : low(_mm512_loadu_si512(static_cast<const uint16_t*>(column) + first)),
          high(_mm512_loadu_si512(static_cast<const uint16_t*>(column) + first + 32)) {}
    __m512i operator[](__m512i index) const { return _mm512_permutex2var_epi16(low, index, high); }
};

inline __m512i load_bytes(const uint8_t* p) {
    return _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}

inline __m512i load_symbols(const int16_t* p) { return _mm512_loadu_si512(p); }

// Saturation keeps symbols outside narrow rows outside.
inline __m512i load_symbols(const int32_t* p) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtsepi32_epi16(_mm512_loadu_si512(p))),
                              _mm512_cvtsepi32_epi16(_mm512_loadu_si512(p + 16)), 1);
}

inline void store_symbols(int16_t* p, __m512i symbols) { _mm512_storeu_si512(p, symbols); }

inline void store_symbols(int32_t* p, __m512i symbols) {
    _mm512_storeu_si512(p, _mm512_cvtepi16_epi32(_mm512_castsi512_si256(symbols)));
    _mm512_storeu_si512(p + 16, _mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(symbols, 1)));
}

// Appends begin + the set positions of mask to the list, and returns its new length. Called for every vector:
// a branch around it would be mispredicted at most escapes.
inline size_t list_special(__mmask32 mask, size_t begin, uint16_t* special_at, size_t special) {
    const __m512i positions =
        _mm512_add_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                         _mm512_set1_epi32(static_cast<int>(begin)));
    for (int half = 0; half < 2; ++half) {
        const auto bits = static_cast<__mmask16>(mask >> (16 * half));
        const __m512i here = _mm512_add_epi32(positions, _mm512_set1_epi32(16 * half));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(special_at + special),
                            _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(bits, here)));
        special += static_cast<size_t>(_mm_popcnt_u32(bits));
    }
    return special;
}

template <typename T>
size_t map(const RowTables& rows, const T* symbols, const uint8_t* indexes, uint16_t* entries, size_t count,
           uint16_t* special_at) {
    const Window window = find_window(rows, indexes, count);
    if (!window.fits) return map_scalar(rows, symbols, indexes, entries, 0, count, special_at, 0);
    const Column offset(rows.offset, window.first), limit(rows.special, window.first),
        base(rows.base, window.first);
    const __m512i first = _mm512_set1_epi16(window.first);
    size_t i = 0, special = 0;
    for (; i + 32 <= count; i += 32) {
        const __m512i index = _mm512_sub_epi16(load_bytes(indexes + i), first);
        const __m512i code = _mm512_sub_epi16(load_symbols(symbols + i), offset[index]);
        const __m512i most = limit[index];
        _mm512_storeu_si512(entries + i, _mm512_add_epi16(base[index], _mm512_min_epu16(code, most)));
        const __mmask32 beyond = _mm512_cmpge_epu16_mask(code, most);
        special = list_special(beyond, i, special_at, special);
    }
    return map_scalar(rows, symbols, indexes, entries, i, count, special_at, special);
}

template <typename T>
size_t unmap(const RowTables& rows, const uint8_t* indexes, const uint8_t* codes, T* out, size_t count,
             uint16_t* special_at) {
    const Window window = find_window(rows, indexes, count);
    if (!window.fits) return unmap_scalar(rows, indexes, codes, out, 0, count, special_at, 0);
    const Column offset(rows.offset, window.first), limit(rows.special_code, window.first);
    const __m512i first = _mm512_set1_epi16(window.first);
    size_t i = 0, special = 0;
    for (; i + 32 <= count; i += 32) {
        const __m512i index = _mm512_sub_epi16(load_bytes(indexes + i), first);
        const __m512i code = load_bytes(codes + i);
        store_symbols(out + i, _mm512_add_epi16(code, offset[index]));
        const __mmask32 beyond = _mm512_cmpge_epu16_mask(code, limit[index]);
        special = list_special(beyond, i, special_at, special);
    }
    return unmap_scalar(rows, indexes, codes, out, i, count, special_at, special);
}

}  // namespace

const Kernels kAvx512Kernels = {
    "avx512", map<int16_t>, map<int32_t>, encode, decode, unmap<int16_t>, unmap<int32_t>,
};

}  // namespace basic
