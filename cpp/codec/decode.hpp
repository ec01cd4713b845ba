// From a file to pixels.
#pragma once

#include <cstdint>

#include "model.hpp"

namespace basic::codec {

// Decodes to pixels of one byte, of a gray picture, or three, row after row. `level`: -1 for what the file suggests, or
// the nearest that the model has. Throws Error; the pixels are then undefined.
void decode_pixels(const Model& model, const Container& file, int level, uint8_t* pixels);

}  // namespace basic::codec
