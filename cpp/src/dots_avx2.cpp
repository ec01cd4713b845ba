// AVX2: products of pairs, then a sum.
#include "dots_avx2.hpp"
#include "dots_list.hpp"

namespace basic {

const Dots kAvx2Dots = dots_of<Avx2>("avx2");

}  // namespace basic
