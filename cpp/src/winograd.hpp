// Layers of kernels of up to 3x3 by the points of squares of 2x2 positions: F(2x2, 3x3) of Winograd, as in Lavin and Gray,
// "Fast Algorithms for Convolutional Neural Networks", CVPR 2016. Of 3x3 weights a square takes 16 products instead of 36,
// of 2x3 12 instead of 24, of 2x2 9 instead of 16.
//
// Along rows, and then along columns,
//   four values d have the points    d0 - d2, d1 + d2, d2 - d1, d1 - d3;
//   three weights g, doubled,        2 g0, g0 + g1 + g2, g0 - g1 + g2, 2 g2;
//   and of the sums m of products at the points come those of two positions, doubled: m0 + m1 + m2, m1 - m2 - m3.
//
// So four times the sums are computed, modulo 2^32. In integers they are the same, bit by bit, if no point passes int16 and
// no sum 2^29. Where one could, values are taken in two parts, value = 4 high + low: four times a sum of high parts is
// what is needed, even where it wraps, and those of low parts are small enough, or the layer is of another kind.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "basic/integer_net.hpp"
#include "weights.hpp"

namespace basic {

struct NetLayer;

// Where a layer finds a tensor: the values of the position that is the first one to it, the values from a position to the
// next, and the positions from a row to the next.
struct PlaneView {
    const int16_t* values = nullptr;
    size_t stride = 0, across = 0;
};

class Winograd {
  public:
    // Null for a layer that is of another kind, for which this would not be faster, or whose weights would pass int16.
    // `weights`: of each block, as they are before they are packed.
    static std::unique_ptr<const Winograd> of(const NetLayer& layer, const int16_t* weights);

    // Sums at the points of squares: of each block of channels (point, square, channel).
    class Sums {
      public:
        Sums(const Winograd& winograd, size_t squares);

        // Those of the block of so many vectors from `first` on, and the values between a point's and the next one's.
        int32_t* block(size_t first) const { return values_.as<int32_t>() + offset(first); }
        size_t apart(size_t vectors) const;

      private:
        size_t offset(size_t first) const;

        const Dots& dots_;
        size_t squares_;
        Memory values_;
    };

    using Planes = std::span<const PlaneView>;

    // Sums of squares whose first positions are at `at` in planes, a multiple of what Dots takes. `numbers`: 0, 1, 2 and so
    // on. False if they could be wrong; what is in `sums` then means nothing.
    bool compute(Planes planes, std::span<const uint32_t> at, const uint32_t* numbers, Sums& sums) const;

    // The same of a part of all values.
    void compute_part(ValuePart part, Planes planes, std::span<const uint32_t> at, const uint32_t* numbers,
                      Sums& sums) const;

    size_t bytes() const { return weights_.size() * sizeof(int16_t) + reach_.size() * sizeof(uint16_t); }

  private:
    struct Kernel;

    // Channels of a tensor, and where their weights are at each point of each block: (pairs, channels of the block, 2).
    struct Source {
        size_t tensor, first, channels;
        std::vector<std::optional<size_t>> weights;
    };

    // Points of a source's values: (point, square, channel), and the least and the largest value of each channel, or 0.
    struct Points {
        Memory values;
        size_t apart;
        std::vector<int16_t> least, most;
    };

    explicit Winograd(const Dots& dots) : dots_(dots), zeros_(dots.vectors * dots.lanes) {}
    bool set_up(const NetLayer& layer, const int16_t* weights);
    bool set_weights(const NetLayer& layer, const int16_t* block, const std::vector<Kernel>& kernels);
    bool low_parts_hold() const;
    Points read(const Source& source, ValuePart part, Planes planes, std::span<const uint32_t> at) const;
    void multiply(size_t source, const Points& points, size_t squares, const uint32_t* numbers, Sums& sums) const;

    const Dots& dots_;
    const std::vector<int32_t> zeros_;
    std::vector<Source> sources_;
    Weights weights_;
    size_t outputs_ = 0, vectors_ = 0;
    std::vector<uint16_t> reach_;  // of each source's channels, of each output: how far sums go for its range, by 8
};

}  // namespace basic
