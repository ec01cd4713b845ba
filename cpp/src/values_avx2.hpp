// Sixteen int16 with AVX2, for versions of Dots whose processors have it; 512 bits would be no faster where it is used.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace basic {
namespace {

struct ValuesAvx2 {
    using Values = __m256i;
    static constexpr int kValues = 16;

    static Values load_values(const int16_t* from) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    }
    static void store_values(int16_t* to, Values v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), v); }
    static Values add_values(Values a, Values b) { return _mm256_add_epi16(a, b); }
    static Values sub_values(Values a, Values b) { return _mm256_sub_epi16(a, b); }
    static Values least(Values a, Values b) { return _mm256_min_epi16(a, b); }
    static Values high_part(Values v) { return _mm256_srai_epi16(v, 2); }
    static Values low_part(Values v) { return _mm256_and_si256(v, _mm256_set1_epi16(3)); }
    static Values most(Values a, Values b) { return _mm256_max_epi16(a, b); }
};

}  // namespace
}  // namespace basic
