// Layers of kernels of up to 3x3 by the points of squares of 2x2 positions: F(2x2, 3x3) of Winograd, as in Lavin and Gray,
// "Fast Algorithms for Convolutional Neural Networks", CVPR 2016. Of 3x3 weights a square takes 16 products instead of 36,
// of 2x3 12 instead of 24, of 2x2 9 instead of 16. In integers the sums are the same, bit by bit, as long as none of
// its numbers passes its type; where one could, values are taken in two parts, each of them so small that none does.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "basic/integer_net.hpp"

namespace basic {

struct NetLayer;

class Winograd {
  public:
    // Null for a layer that is of another kind, for which this would not be faster, or whose weights would pass int16.
    static std::unique_ptr<const Winograd> of(const NetLayer& layer, const Dots& dots);

    // Sums at the points of squares: of each block of channels (point, square, channel).
    class Sums {
      public:
        Sums(const Winograd& winograd, size_t squares);

        // Those of the block of so many vectors from `first` on, and the values between a point's and the next one's.
        int32_t* block(size_t first) const;
        size_t apart(size_t vectors) const;

      private:
        const Dots& dots_;
        size_t squares_;
        Memory values_;
    };

    // The sums of squares whose first positions are at `at` in planes, a multiple of what Dots takes. False if those of
    // whole values could be wrong, as those of their parts never are. `numbers`: 0, 1, 2 and so on.
    bool add(std::span<const std::shared_ptr<const Plane>> planes, std::span<const uint32_t> at, ValuePart part,
             const uint32_t* numbers, const Sums& sums) const;

    size_t bytes() const { return weights_.size() * sizeof(int16_t) + reach_.size() * sizeof(uint16_t); }

  private:
    // Channels of a tensor, and where their weights are at each point of each block: (pairs, channels of the block, 2).
    struct Part {
        size_t source, first, channels;
        std::vector<std::optional<size_t>> weights;
    };
    static constexpr size_t kPoints = 16;

    explicit Winograd(const Dots& dots) : dots_(dots) {}
    bool take(const NetLayer& layer);
    void add_part(size_t part, const int16_t* points, size_t apart, size_t squares, const uint32_t* numbers,
                  const Sums& sums) const;

    const Dots& dots_;
    std::vector<Part> parts_;
    std::vector<int16_t> weights_;
    size_t outputs_ = 0, vectors_ = 0;
    std::vector<uint16_t> reach_;  // of each part's channels, of each output: how far sums go for its range, in units of 8
};

}  // namespace basic
