// Positions of a group's layers that one thread computes.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "net_plan.hpp"

namespace basic {

// Rows and columns count from those that the group is computed for.
struct NetPiece {
    struct Place {
        uint32_t row, column;
    };

    std::vector<Place> places;
    // For each stride, their places in a plane of so many times their rows and columns, counted from its
    // first one, and the last one's again to a multiple of what Dots takes.
    std::array<std::vector<uint32_t>, kMaxStep + 1> at;
    std::vector<uint32_t> squares;  // at[1] of the first position of each square, if they come in squares
};

// How so many rows and columns are cut into pieces: by units of a position, or of a square of 2x2, which
// follow each other along the rows of strips, so narrow that the rows which a kernel reads stay in the second
// cache.
class NetCut {
  public:
    NetCut(const NetPlan& plan, const NetGroup& group, size_t height, size_t width);

    size_t pieces() const { return (strips_ - 1) * pieces_of(0) + pieces_of(strips_ - 1); }

    // Positions beyond the last row or column are the last ones again.
    NetPiece piece(size_t number) const;

  private:
    // Units of a row of a strip, and how many pieces it has.
    size_t across(size_t strip) const { return std::min(strip_, across_ - strip * strip_); }
    size_t pieces_of(size_t strip) const { return (down_ * across(strip) + size_ - 1) / size_; }

    NetPiece::Place* put_row(NetPiece::Place* place, size_t row, size_t column, size_t count) const;
    NetPiece::Place* put_squares(NetPiece::Place* place, size_t row, size_t column, size_t count) const;
    void fill(NetPiece& piece, size_t stride) const;

    const NetGroup& group_;
    size_t positions_;  // lists are multiples of it
    size_t height_, width_;
    size_t side_, across_, down_;   // of a unit; units of a row and of a column
    size_t strips_, strip_, size_;  // strips, and units of a row of one, and of a piece
};

}  // namespace basic
