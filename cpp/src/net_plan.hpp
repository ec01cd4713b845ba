// What an IntegerNet is made of, once it is checked.
#pragma once

#include <memory>

#include "basic/integer_net.hpp"
#include "weights.hpp"
#include "winograd.hpp"

namespace basic {

// Positions that one thread takes at a time, at most: their sums stay in the second cache, too, unless many channels are
// computed by squares, and their weights are read from further away but once.
inline constexpr size_t kPositionsAtOnce = 192;

// Strides, the sides of pixel shuffles, and the steps of outputs in parts, at most.
inline constexpr size_t kMaxStep = 8;

inline size_t rounded_up(size_t count, size_t unit) { return (count + unit - 1) / unit * unit; }

// How many of `count` things are `first`, `first + step` and so on.
inline size_t every(size_t count, size_t first, size_t step) {
    return count > first ? (count - first + step - 1) / step : 0;
}

// A layer, its weights in the order in which they are read.
struct NetLayer {
    // Channels of a source at one place of a kernel; places whose weights are all zero have none.
    struct Tap {
        size_t source, stride;
        int down, right;
        size_t first, pairs;  // of the source's values at a position
    };

    // Taps up to one that are summed in one go, which are of one stride, and how many weights a vector has for them.
    struct Sweep {
        size_t last, weights;
    };

    bool leak = false, wide = false;  // wide: its results are int32
    size_t shuffle = 1, rate = 1, outputs = 0, vectors = 0;  // rate: rows before its shuffle for each row of the coarsest input
    const Dots* dots = nullptr;  // which computes it: the network's, or what that leaves small layers to
    size_t block = 0;  // vectors that are summed at a time, at most
    std::vector<Tap> taps;
    std::vector<Sweep> sweeps;
    std::vector<int32_t> bias, shift, low, high;  // of all vectors' channels, those of a new position side by side
    Weights weights;  // for each block, for each sweep, packed: for each tap (pairs, channels, 2); none with `winograd`
    std::vector<SkipSpec> skips;
    std::optional<size_t> gate;
    std::unique_ptr<const Winograd> winograd;  // has the weights, where it is faster by that

    NetLayer() = default;

    // `channels`: of each tensor before the layer; `all`: what computes the network. The parts of `spec` must fit each other.
    NetLayer(const LayerSpec& spec, const std::vector<size_t>& channels, size_t rate, const Dots& all);

    size_t pairs() const;  // of weights to a sum

    // Whether a block's outputs go to one of a shuffle's new positions, to which they can be written at once.
    bool blocks_stay_together() const { return outputs / (shuffle * shuffle) % (block * dots->lanes) == 0; }

  private:
    // Where the weights of each tap are in a layer's specification: the first output's of its first channel.
    struct Given {
        const int16_t* weights;
        size_t places, inputs;
    };

    std::vector<Given> set_taps(const LayerSpec& spec, const std::vector<size_t>& channels);
    void set_sweeps();
    std::vector<size_t> pairs_of(size_t first, size_t last) const;  // of each of some taps

    // For each block, for each tap: (pairs, channels, 2). `from`: what each output is in the specification.
    Weights weights_of(const std::vector<Given>& given, const std::vector<size_t>& from) const;
    Weights packed(const int16_t* plain) const;
};

// Layers that one thread may take one after the other for some positions: none reads beside its own position what
// another of them wrote.
struct NetGroup {
    size_t first, last;            // layers
    std::vector<size_t> strides;   // of their taps and shuffles
    std::vector<size_t> finished;  // tensors that nothing reads after them
    bool in_squares = false;       // whether positions come in squares of 2x2, as a layer of it takes them
};

struct NetPlan {
    std::vector<InputSpec> inputs;
    std::vector<NetLayer> layers;
    std::vector<NetGroup> groups;
    std::vector<OutputSpec> outputs;
    std::vector<size_t> channels, rates;  // of each tensor; rate: its rows for each row of the coarsest input
    Workers& workers;
    const Dots& dots;
    std::vector<uint32_t> numbers = {};  // 0, 1, 2 and so on: where what stays in order is read and written

    // Adds layers, once. Throws NetError, then by none of them.
    void add(const std::vector<LayerSpec>& specs);

    // Tells the groups which tensors each is the last to read.
    void finish();

    bool wide(size_t tensor) const { return tensor >= inputs.size() && layers[tensor - inputs.size()].wide; }

  private:
    // A layer to the last group if it can, or else to a new one.
    void group(size_t number);
};

}  // namespace basic
