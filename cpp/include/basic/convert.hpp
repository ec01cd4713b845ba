// From one array to another of other strides or another type: parts of tensors, on their way between graphs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "basic/workers.hpp"

namespace basic {

// An axis of both arrays; strides in values.
struct Axis {
    size_t size;
    std::ptrdiff_t from, to;
};

// to = from * scale, each step rounded to float32, if To is float; or else the same numbers, where `scale` is 1. False,
// and any values, if To cannot hold one of them. The arrays do not overlap. Types: uint8_t to itself; int16_t, int32_t and
// float to int16_t and float.
template <typename From, typename To>
bool convert(const From* from, To* to, std::vector<Axis> axes, float scale, Workers& workers);

}  // namespace basic
