#include "net_piece.hpp"

#include <algorithm>

namespace basic {
namespace {

constexpr size_t kStripWidth = 256;  // positions

}  // namespace

NetCut::NetCut(const NetPlan& plan, const NetGroup& group, size_t height, size_t width)
    : group_(group),
      positions_(plan.dots.positions),
      height_(height),
      width_(width),
      side_(group.in_squares ? 2 : 1),
      across_((width + side_ - 1) / side_),
      down_((height + side_ - 1) / side_),
      strips_((width + kStripWidth - 1) / kStripWidth),
      strip_((across_ + strips_ - 1) / strips_) {
    strips_ = (across_ + strip_ - 1) / strip_;
    const size_t share = (down_ * across_ + plan.workers.threads() - 1) / plan.workers.threads();
    size_ = rounded_up(std::min(share, kPositionsAtOnce / (side_ * side_)), positions_);
}

NetPiece NetCut::piece(size_t number) const {
    const size_t strip = std::min(number / pieces_of(0), strips_ - 1), across = this->across(strip);
    const size_t first = (number - strip * pieces_of(0)) * size_,
                 last = std::min(first + size_, down_ * across);
    NetPiece piece;
    piece.places.resize((last - first) * side_ * side_);
    NetPiece::Place* place = piece.places.data();
    for (size_t unit = first; unit < last;) {  // along a row of units
        const size_t row = unit / across * side_, column = strip * strip_ + unit % across;
        const size_t count = std::min(across - unit % across, last - unit);
        place = side_ == 1 ? put_row(place, row, column, count) : put_squares(place, row, 2 * column, count);
        unit += count;
    }
    fill(piece, 1);  // of what is added to sums, at least
    for (const size_t stride : group_.strides)
        if (stride != 1) fill(piece, stride);
    if (side_ != 1) {
        piece.squares.resize(rounded_up(last - first, positions_), piece.at[1][4 * (last - first - 1)]);
        for (size_t k = 0; k < last - first; ++k) piece.squares[k] = piece.at[1][4 * k];
    }
    return piece;
}

NetPiece::Place* NetCut::put_row(NetPiece::Place* place, size_t row, size_t column, size_t count) const {
    for (size_t k = 0; k < count; ++k)
        place[k] = {static_cast<uint32_t>(row), static_cast<uint32_t>(column + k)};
    return place + count;
}

NetPiece::Place* NetCut::put_squares(NetPiece::Place* place, size_t row, size_t column, size_t count) const {
    const auto top = static_cast<uint32_t>(row),
               bottom = static_cast<uint32_t>(std::min(row + 1, height_ - 1));
    for (size_t k = 0; k < count; ++k, column += 2, place += 4) {
        const auto left = static_cast<uint32_t>(column),
                   right = static_cast<uint32_t>(std::min(column + 1, width_ - 1));
        place[0] = {top, left}, place[1] = {top, right}, place[2] = {bottom, left},
        place[3] = {bottom, right};
    }
    return place;
}

void NetCut::fill(NetPiece& piece, size_t stride) const {
    std::vector<uint32_t>& at = piece.at[stride];
    const auto step = static_cast<uint32_t>(stride),
               down = step * static_cast<uint32_t>(width_ * stride + 2 * kBorder);
    const size_t count = piece.places.size();
    const NetPiece::Place& last = piece.places.back();
    at.resize(rounded_up(count, positions_), last.row * down + last.column * step);
    for (size_t k = 0; k < count; ++k) at[k] = piece.places[k].row * down + piece.places[k].column * step;
}

}  // namespace basic
