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

// Rows or columns of the picture: the first, and the one after the last.
struct Range {
    size_t first, last;
};

// A part of the latents, in multiples of what the stages' tiles stand for, as networks read it: times `unit`.
PhasesInput phases_of(const Model& model, const Latents& latents, Range rows, Range columns, float unit);

// A part of one axis of the padded picture: `start` to `stop` is computed, `first` to `last` counts.
struct Span {
    size_t start, stop, first, last;
};

// Cuts `first` to `last` of an axis of `length` into spans of at most `side`, each with a margin on both sides.
std::vector<Span> spans(Range part, size_t length, size_t side, size_t margin);

// Of the tiles of g_a and g_s, without their margins.
inline constexpr size_t kTileRows = 1024, kTileColumns = 2048;

// What g_s makes of rows of a picture, before any filter: pixels of colours() bytes.
void synthesise(const Model& model, const Shape& shape, const Latents& latents, uint32_t synthesis, Range rows,
                uint8_t* pixels);

}  // namespace basic::codec
