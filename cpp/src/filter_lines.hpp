// What the filter of decoded pixels and its moments read: rows of a picture as a line for each colour, with the samples of
// the edges repeated beyond them.
#pragma once

#include <algorithm>
#include <array>
#include <vector>

#include "basic/post_filter.hpp"
#include "basic/workers.hpp"
#include "unrolled.hpp"
#include "vectorised.hpp"

namespace basic {
namespace {

constexpr ptrdiff_t kMargin = 2;

struct Pair {
    ptrdiff_t down, right;
};
constexpr std::array<Pair, kFilterPairs> kPairs{{{0, 1}, {0, 2}, {1, -1}, {1, 0}, {1, 1}, {2, 0}}};

// Where the samples of a line are, those of one colour `planes` values from those of the one before, and their neighbours.
template <typename Value>
struct Places {
    const Value* centre;
    std::array<const Value*, kFilterPairs> near, far;
    size_t planes;
};

// A row of pixels as a line for each colour, with margins.
template <size_t kColours, typename Value>
BASIC_VECTORISED
void split(const uint8_t* __restrict pixels, size_t columns, Value* __restrict line, size_t planes) {
    for (size_t i = 0; i < columns; ++i)
        unrolled<kColours>([&](int c) BASIC_ALWAYS_INLINE {
            line[static_cast<size_t>(c) * planes + kMargin + i] = pixels[i * kColours + static_cast<size_t>(c)];
        });
    for (size_t c = 0; c < kColours; ++c) {
        Value* plane = line + c * planes;
        std::fill_n(plane, kMargin, plane[kMargin]);
        std::fill_n(plane + kMargin + columns, kMargin, plane[kMargin + columns - 1]);
    }
}

// The rows around one, of which each new one takes the place of the oldest.
template <typename Value>
class Lines {
  public:
    // `spare`: values beyond the last column that may be read.
    Lines(size_t columns, size_t colours, size_t spare)
        : columns_(columns), colours_(colours), planes_(columns + 2 * kMargin),
          values_(kLines * colours * planes_ + spare) {}

    void load(ptrdiff_t row, const uint8_t* pixels) {
        Value* line = values_.data() + offset(row);
        (colours_ == 3 ? &split<3, Value> : &split<1, Value>)(pixels, columns_, line, planes_);
    }

    Places<Value> places(ptrdiff_t row, size_t column) const {
        const auto at = [&](ptrdiff_t down, ptrdiff_t right) {
            return values_.data() + offset(row + down) + static_cast<ptrdiff_t>(column) + kMargin + right;
        };
        Places<Value> places{at(0, 0), {}, {}, planes_};
        for (size_t k = 0; k < kFilterPairs; ++k) {
            const auto [down, right] = kPairs[k];
            places.near[k] = at(down, right), places.far[k] = at(-down, -right);
        }
        return places;
    }

  private:
    static constexpr size_t kLines = 2 * kMargin + 1;

    size_t offset(ptrdiff_t row) const { return static_cast<size_t>(row + kMargin) % kLines * colours_ * planes_; }

    size_t columns_, colours_, planes_;
    std::vector<Value> values_;
};

// Of rows `first` to `last`: `load(row)` for all that they need, those beyond an edge among them, each once, and
// `visit(row, column, count)` for blocks of at most `block` columns.
template <typename Load, typename Visit>
void walk(size_t first, size_t last, size_t columns, size_t block, const Load& load, const Visit& visit) {
    const auto top = static_cast<ptrdiff_t>(first), bottom = static_cast<ptrdiff_t>(last);
    for (ptrdiff_t row = top - kMargin; row < top + kMargin; ++row) load(row);
    for (ptrdiff_t row = top; row < bottom; ++row) {
        load(row + kMargin);
        for (size_t column = 0; column < columns; column += block)
            visit(row, column, std::min(block, columns - column));
    }
}

constexpr size_t kLeastRows = 16;  // of a band: fewer are not worth a thread

// Rows `first` to `last` as bands side by side, each made of `parts` and its own rows; they have run when this returns.
template <typename Band, typename... Parts>
std::vector<Band> run_bands(Workers& workers, size_t first, size_t last, size_t threads, const Parts&... parts) {
    const size_t rows = last - first, count = std::clamp<size_t>(rows / kLeastRows, 1, threads);
    std::vector<Band> bands;
    bands.reserve(count);
    for (size_t k = 0; k < count; ++k)
        bands.emplace_back(parts..., first + rows * k / count, first + rows * (k + 1) / count);
    workers.each(count, [&](size_t k) { bands[k].run(); });
    return bands;
}

}  // namespace
}  // namespace basic
