// The work on the tensors of an IntegerNet, in pieces for several threads.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "basic/integer_net.hpp"
#include "net_piece.hpp"
#include "net_plan.hpp"

namespace basic {

// Some rows of each tensor of a plan, and what is done with them. Which rows there are is decided by what
// inherits.
class NetWork {
  protected:
    // Rows of a tensor from `first` on, which is the first of the plane, or of `wide_`.
    struct Rows {
        std::shared_ptr<const Plane> plane;
        size_t first = 0;
    };

    explicit NetWork(const NetPlan& plan)
        : plan_(plan), rows_(plan.channels.size()), wide_(rows_.size()), views_(rows_.size()) {}

    // Rows and columns of the coarsest input. Throws NetError for inputs of other channels or of unequal
    // sizes.
    std::array<size_t, 2> size_of(const std::vector<NetInput>& inputs) const;

    // An input's values as the network counts them, to the rows of a plane from one on.
    void read(const InputSpec& spec, const NetInput& input, Plane& plane, size_t row) const;

    // The results of a group's layers for their rows `first` to `last`: to `results`, the planes in `rows_`
    // of its layers, which are null for wide ones, and to `wide_`. These have room for them, and what these
    // rows need of their sources.
    void compute(const NetGroup& group, size_t first, size_t last, const std::vector<Plane*>& results);

    // What the stride of a layer's plane is a multiple of: vectors are written as they are, without another
    // position's values being in the way, where that takes no more than twice the memory, and what is added
    // to them has as many.
    size_t unit_of(const NetLayer& layer) const;

    // Whether an output is all of a tensor, as a plane.
    bool is_whole(const OutputSpec& spec) const;

    // An output that is made of rows `first` to `last` of its tensors.
    NetOutput output(const OutputSpec& spec, size_t first, size_t last) const;

    const NetPlan& plan_;
    size_t width_ = 0;          // columns of the coarsest input
    std::vector<Rows> rows_;    // of each tensor, but for
    std::vector<Memory> wide_;  // wide ones: int32 (row, column, channel)

  private:
    // Where a layer's results go, from the first row on that is being computed: a plane, or a wide tensor.
    struct Target {
        int16_t* values;
        int32_t* wide;
        size_t stride, across, channels;

        int16_t* at(size_t row, size_t column) const { return values + (row * across + column) * stride; }
    };

    NetOutput plane(const OutputSpec& spec, size_t channels, size_t first, size_t height, size_t width) const;
    NetOutput floats(const OutputSpec& spec, size_t channels, size_t first, size_t height,
                     size_t width) const;

    void compute(const NetLayer& layer, const NetPiece& piece, const Target& target) const;
    void by_squares(const NetLayer& layer, const NetPiece& piece, const Target& target) const;
    DotsTap dots_tap(const NetLayer::Tap& tap) const;
    DotsSkip dots_skip(const SkipSpec& skip, size_t channel) const;
    DotsFinish finish_of(const NetLayer& layer, const NetPiece& piece, size_t channel, size_t channels,
                         const std::vector<DotsSkip>& skips, const Target& target, int16_t* block) const;
    static void store(const NetLayer& layer, const NetPiece& piece, const int16_t* block, size_t first,
                      size_t channels, const Target& target);

    std::vector<PlaneView>
        views_;  // of each tensor, from the first row of the group that is being computed on
};

}  // namespace basic
