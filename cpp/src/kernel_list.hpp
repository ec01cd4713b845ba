// The kernels that a build may hold, each defined in a file compiled for its instruction set.
#pragma once

#include "basic/kernels.hpp"

namespace basic {

extern const Kernels kScalarKernels;
#if defined(BASIC_X86_KERNELS)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#elif defined(BASIC_NEON_KERNELS)
extern const Kernels kNeonKernels;
#endif

}  // namespace basic
