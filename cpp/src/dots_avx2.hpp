// What AVX2 has for Dots, with and without VNNI.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "dots_blocks.hpp"
#include "values_avx2.hpp"

namespace basic {
namespace {

struct Avx2 : ValuesAvx2 {
    using Vector = __m256i;
    static constexpr int kLanes = 8, kVectors = 2, kPositions = 4;

    static Vector load(const int32_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }
    static void store(int32_t* to, Vector v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), v); }
    static Vector load_pairs(const int16_t* from) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    }
    static Vector repeat_pair(const int16_t* from) {
        int32_t pair;
        std::memcpy(&pair, from, sizeof pair);
        return _mm256_set1_epi32(pair);
    }
    static Vector load_wide(const int16_t* from) {
        return _mm256_cvtepi16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    }
    static Vector add(Vector a, Vector b) { return _mm256_add_epi32(a, b); }
    static Vector sub(Vector a, Vector b) { return _mm256_sub_epi32(a, b); }
    static Vector shift_left(Vector v, const int32_t* by) { return _mm256_sllv_epi32(v, load(by)); }
    static Vector dot(Vector sum, Vector a, Vector b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }
    static Vector shift_right(Vector v, const int32_t* by) { return _mm256_srav_epi32(v, load(by)); }
    static Vector leak(Vector v) {
        const Vector half = _mm256_set1_epi32(1 << (kLeakBits - 1));
        const Vector leaked = _mm256_srai_epi32(_mm256_add_epi32(v, half), kLeakBits);
        return _mm256_blendv_epi8(v, leaked, _mm256_srai_epi32(v, 31));
    }
    static Vector where_positive(Vector v, const int16_t* gate) {
        return _mm256_and_si256(v, _mm256_cmpgt_epi32(load_wide(gate), _mm256_setzero_si256()));
    }
    static Vector clamp(Vector v, const int32_t* low, const int32_t* high) {
        return _mm256_max_epi32(_mm256_min_epi32(v, load(high)), load(low));
    }
    static void store_narrow(int16_t* to, Vector v) {
        const __m128i narrow = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), narrow);
    }
};

}  // namespace
}  // namespace basic
