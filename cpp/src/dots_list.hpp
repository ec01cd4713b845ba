// The versions of Dots that a build may hold, each defined in a file compiled for its instruction set.
#pragma once

#include "basic/dots.hpp"

namespace basic {

extern const Dots kScalarDots;
#if defined(BASIC_X86_KERNELS)
extern const Dots kAvx2Dots;
#if defined(BASIC_AVX_VNNI)
extern const Dots kAvxVnniDots;
#endif
extern const Dots kAvx512Dots;
extern const Dots kAvx512VnniDots;
#if defined(BASIC_AMX)
extern const Dots kAmxDots;
#endif
#elif defined(BASIC_NEON_KERNELS)
extern const Dots kNeonDots;
#elif defined(BASIC_WASM_KERNELS)
extern const Dots kWasmDots;
#endif

}  // namespace basic
