// What AVX-512 has for Dots, with and without VNNI.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "dots_blocks.hpp"
#include "values_avx2.hpp"

namespace basic {
namespace {

struct Avx512 : ValuesAvx2 {
    using Vector = __m512i;
    static constexpr int kLanes = 16, kVectors = 4, kPositions = 6;

    static Vector load(const int32_t* from) { return _mm512_loadu_si512(from); }
    static void store(int32_t* to, Vector v) { _mm512_storeu_si512(to, v); }
    static Vector load_pairs(const int16_t* from) { return _mm512_loadu_si512(from); }
    static Vector repeat_pair(const int16_t* from) {
        int32_t pair;
        std::memcpy(&pair, from, sizeof pair);
        return _mm512_set1_epi32(pair);
    }
    static Vector load_wide(const int16_t* from) {
        return _mm512_cvtepi16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
    }
    static Vector add(Vector a, Vector b) { return _mm512_add_epi32(a, b); }
    static Vector sub(Vector a, Vector b) { return _mm512_sub_epi32(a, b); }
    static Vector shift_left(Vector v, const int32_t* by) { return _mm512_sllv_epi32(v, load(by)); }
    static Vector dot(Vector sum, Vector a, Vector b) { return _mm512_add_epi32(sum, _mm512_madd_epi16(a, b)); }
    static Vector shift_right(Vector v, const int32_t* by) { return _mm512_srav_epi32(v, load(by)); }
    static Vector leak(Vector v) {
        const Vector half = _mm512_set1_epi32(1 << (kLeakBits - 1));
        const Vector leaked = _mm512_srai_epi32(_mm512_add_epi32(v, half), kLeakBits);
        return _mm512_mask_mov_epi32(v, _mm512_movepi32_mask(v), leaked);
    }
    static Vector where_positive(Vector v, const int16_t* gate) {
        return _mm512_maskz_mov_epi32(_mm512_cmpgt_epi32_mask(load_wide(gate), _mm512_setzero_si512()), v);
    }
    static Vector clamp(Vector v, const int32_t* low, const int32_t* high) {
        return _mm512_max_epi32(_mm512_min_epi32(v, load(high)), load(low));
    }
    static void store_narrow(int16_t* to, Vector v) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(v));
    }
};

}  // namespace
}  // namespace basic
