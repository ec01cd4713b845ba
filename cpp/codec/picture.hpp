// From a file to pixels.
#pragma once

#include <cstdint>
#include <vector>

#include "model.hpp"

namespace basic::codec {

// Bytes of a pixel: one of a gray picture.
inline size_t colours_of(const Header& header) { return header.gray ? 1 : 3; }

// Decodes to pixels of so many bytes each, row after row. `level`: -1 for what the file suggests, or the nearest that the
// model has. Throws Error; the pixels are then undefined.
void decode_pixels(const Model& model, const Container& file, int level, uint8_t* pixels);

}  // namespace basic::codec
