#include "kernels_scalar.hpp"

#include "kernel_list.hpp"

namespace basic {

const Kernels kScalarKernels = {
    "scalar",      map_all_scalar<int16_t>,   map_all_scalar<int32_t>,   encode_scalar,
    decode_scalar, unmap_all_scalar<int16_t>, unmap_all_scalar<int32_t>,
};

}  // namespace basic
