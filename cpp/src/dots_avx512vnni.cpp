// AVX-512 with VNNI: two products and two sums in one instruction.
#include "dots_avx512.hpp"
#include "dots_list.hpp"

namespace basic {
namespace {

struct Avx512Vnni : Avx512 {
    static Vector dot(Vector sum, Vector a, Vector b) { return _mm512_dpwssd_epi32(sum, a, b); }
};

}  // namespace

const Dots kAvx512VnniDots = dots_of<Avx512Vnni>("avx512vnni");

}  // namespace basic
