// Whether a picture gets a filter of its own, and which.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "basic/post_filter.hpp"
#include "synthesis.hpp"

namespace basic::codec {

// Weights that take more bits' worth of error away than they cost, if there are any: those of
// basic_runtime/post_filter_fit.py. `worth`: of a squared error of all colours of a pixel, in bits.
std::optional<std::vector<int8_t>> worthwhile_filter(const Model& model, const ConstPicture& picture,
                                                     const Header& header, const Latents& latents, double worth);

}  // namespace basic::codec
