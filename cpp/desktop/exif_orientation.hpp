// How EXIF data ask a viewer to turn a picture.
#pragma once

#include <cstdint>
#include <span>

namespace basic {

// The orientation, 1 to 8 (Exif 2.32, 4.6.4); 1, as stored, where the data, from their TIFF header on, state
// none or are damaged.
int exif_orientation(std::span<const uint8_t> exif);

}  // namespace basic
