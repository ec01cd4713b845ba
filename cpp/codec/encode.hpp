// From pixels to a file.
#pragma once

#include <cstdint>
#include <vector>

#include "basic/post_filter.hpp"
#include "model.hpp"

namespace basic::codec {

// `level`: -1 for the highest that was packed; `effort`: 0, or 1 to fit a filter to the picture; -1 for 1 where the
// model says what bits are worth.
struct EncodeSettings {
    int quality_step, level, effort;
};

// Encodes a picture of one or three colours, with the chunks of what goes with its pixels. Throws Error.
std::vector<uint8_t> encode(const Model& model, const ConstPicture& picture, const EncodeSettings& settings,
                            Chunks extras);

}  // namespace basic::codec
