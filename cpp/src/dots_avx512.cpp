// AVX-512 without VNNI: products of pairs, then a sum.
#include "dots_avx512.hpp"
#include "dots_list.hpp"

namespace basic {

const Dots kAvx512Dots = dots_of<Avx512>("avx512");

}  // namespace basic
