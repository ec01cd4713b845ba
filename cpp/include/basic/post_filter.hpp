// The filter that decoded pixels pass through at last: a small network in integers, the same bits everywhere.
//
// Of a sample, its colour's own and the other colours' neighbours count: twelve of them in a diamond, as six pairs that lie
// opposite each other. With d(n) = neighbour - sample of one colour, each pair gives two features for each colour:
//
//     clipped = clamp(d(n), -kFilterClip, kFilterClip) + clamp(d(m), -kFilterClip, kFilterClip)     linear = d(n) + d(m)
//
//     filtered = clamp(sample + ((sum of weight * feature + 2^(kFilterBits - 1)) >> kFilterBits), 0, 255)
//
// Neighbours beyond an edge are the sample at the edge. As in the adaptive loop filter of VVC (Karczewicz et al., "VVC
// In-Loop Filters", 2021), where the clipping is Taquet's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace basic {

inline constexpr size_t kFilterPairs = 6;
inline constexpr int kFilterClip = 8, kFilterBits = 7;

// Weights lie [colour of the sample][pair][colour of the neighbours][clipped, linear].
constexpr size_t filter_weights(size_t colours) { return colours * kFilterPairs * colours * 2; }

// A picture of bytes: those of one pixel, 1 or 3 colours, and those of a row lie side by side.
template <typename Byte>
struct PictureOf {
    Byte* pixels;
    ptrdiff_t row_stride;
    size_t rows, columns, colours;
};
using Picture = PictureOf<uint8_t>;
using ConstPicture = PictureOf<const uint8_t>;

// Of rows of a picture, as it was decoded and as it should be: sums over samples of the products of features with each
// other, (n, n) in the order of a colour's weights, and with the errors before the filter (original - decoded), (n,
// colours). Exact, so that the same weights are fitted everywhere.
struct FilterMoments {
    std::vector<int64_t> features, errors;
};

// Both pictures are of one shape; rows from `first` to `last` count. Throws std::invalid_argument for what does not fit.
FilterMoments filter_moments(const ConstPicture& decoded, const ConstPicture& original, size_t first, size_t last,
                             size_t threads);

// The weights that leave the least error, by moments as doubles; those that save less than their bits are worth are 0:
// bits_per_error is what a squared error of a sample is worth in bits, and with infinity none goes. The same moments give
// the same weights on every machine. Throws std::invalid_argument for moments of another size.
std::vector<int8_t> fit_filter(std::span<const double> features, std::span<const double> errors, size_t colours,
                               double bits_per_error);

// Filters a picture in place. Throws std::invalid_argument for a wrong number of weights or of colours.
void post_filter(const Picture& picture, std::span<const int8_t> weights, size_t threads);

}  // namespace basic
