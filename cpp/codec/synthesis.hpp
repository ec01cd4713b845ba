// From latents to pixels, through g_s.
#pragma once

#include <cstdint>

#include "entropy_path.hpp"

namespace basic::codec {

// What of a picture its pixels depend on, besides its latents.
struct Shape {
    uint32_t width, height;
    bool gray;
    int quality_step;

    static Shape of(const Header& header) { return {header.width, header.height, header.gray, header.quality_step}; }
    size_t colours() const { return gray ? 1 : 3; }  // bytes of a pixel
};

// Rows of the picture: the first, and the one after the last.
struct Range {
    size_t first, last;
};

// Rows of the latents, in multiples of what the stages' tiles stand for, as networks read them: times `unit`.
PhasesInput phases_of(const Model& model, const Latents& latents, Range rows, float unit);

// Rows of the padded picture in bands, as many at a time as keep the tensors of g_a and g_s small.
std::vector<Range> bands(const Model& model, const Canvas& canvas, Range rows);

// What g_s makes of rows of a picture, before any filter: pixels of colours() bytes.
void synthesise(const Model& model, const Shape& shape, const Latents& latents, uint32_t synthesis, Range rows,
                uint8_t* pixels);

}  // namespace basic::codec
