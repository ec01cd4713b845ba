// AVX2 with VNNI, of processors that have no AVX-512: two products and two sums in one instruction.
#include "dots_avx2.hpp"
#include "dots_list.hpp"

namespace basic {
namespace {

struct AvxVnni : Avx2 {
    static constexpr int kPositions = 6;  // twelve sums, as an instruction's takes five cycles, and two begin in each
    static Vector dot(Vector sum, Vector a, Vector b) { return _mm256_dpwssd_avx_epi32(sum, a, b); }
};

}  // namespace

const Dots kAvxVnniDots = dots_of<AvxVnni>("avxvnni");

}  // namespace basic
