// Networks of integer convolutions: what the graphs of a bundle's entropy path compute, in the integers that their
// float32 stands for, and those of the pixel path in fixed point. Any processor and any number of threads gives the same
// integers.
//
// Values are int16, sums int32. Where a sum would pass 2^31 it wraps, the same everywhere; whoever makes a network sees
// to it that none does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <variant>
#include <vector>

#include "basic/dots.hpp"
#include "basic/memory.hpp"
#include "basic/workers.hpp"

namespace basic {

// The network or an input of it is not what it must be.
class NetError : public std::invalid_argument {
  public:
    using std::invalid_argument::invalid_argument;
};

// Positions around every plane that hold zeros: no kernel reaches further.
inline constexpr int kBorder = 2;

// The part of a border that holds zeros, where the rest may hold anything.
enum class Border { all, sides };

// A tensor (channels, height, width) of int16, laid out by position, with `kBorder` zeros around it. `stride` values
// per position: the channels, and zeros up to a multiple of `unit`, an even number.
class Plane {
  public:
    Plane(size_t channels, size_t height, size_t width, size_t unit = 2, Border border = Border::all);

    size_t channels() const { return channels_; }
    size_t height() const { return height_; }
    size_t width() const { return width_; }
    size_t stride() const { return stride_; }

    // The number of a position, which `data() + number * stride()` is the first channel of.
    size_t position(size_t row, size_t column) const {
        return (row + kBorder) * (width_ + 2 * kBorder) + column + kBorder;
    }
    int16_t* data() { return data_.as<int16_t>(); }
    const int16_t* data() const { return data_.as<int16_t>(); }

    // The values of a position, and how many positions a row is from the next.
    int16_t* at(size_t row, size_t column) { return data() + position(row, column) * stride_; }
    const int16_t* at(size_t row, size_t column) const { return data() + position(row, column) * stride_; }
    size_t across() const { return width_ + 2 * kBorder; }

  private:
    size_t channels_, height_, width_, stride_;
    Memory data_;
};

// What a network reads: a plane that another network wrote; a part of one, or of more than one, whose channels lie side
// by side; or values (channels, height, width). clamp(floor(value * scale + 0.5), low, high) of each channel counts.
struct PartInput {
    const int16_t* values;
    size_t channels, height, width;
    std::ptrdiff_t row_stride, column_stride;  // in values
};
template <typename Value>
struct ArrayInput {
    ArrayInput(const Value* values, size_t channels, size_t height, size_t width)
        : ArrayInput(values, channels, height, width, static_cast<std::ptrdiff_t>(height * width),
                     static_cast<std::ptrdiff_t>(width)) {}
    ArrayInput(const Value* values, size_t channels, size_t height, size_t width, std::ptrdiff_t channel_stride,
               std::ptrdiff_t row_stride)
        : values(values), channels(channels), height(height), width(width), channel_stride(channel_stride),
          row_stride(row_stride) {}

    const Value* values;
    size_t channels, height, width;
    std::ptrdiff_t channel_stride, row_stride;  // in values; those of a row lie side by side
};
using FloatInput = ArrayInput<float>;

// A tensor in parts, of which each has some of the channels, and of the rows and columns every `step`-th from one on.
// value * unit counts, rounded to float32. Together they have each value once.
struct PhasesInput {
    struct Phase {
        std::variant<FloatInput, ArrayInput<int16_t>> values;
        size_t first, row, column;  // channel, row and column of its first value
    };

    // Throws NetError for parts that do not fit each other.
    PhasesInput(std::vector<Phase> phases, size_t step, float unit);

    std::vector<Phase> phases;
    size_t step;
    float unit;
    size_t channels = 0, height = 0, width = 0;
};

using NetInput = std::variant<std::shared_ptr<const Plane>, PartInput, FloatInput, ArrayInput<int16_t>, PhasesInput>;

// What a network gives: a plane, or float32 (channels, height, width).
struct FloatOutput {
    Memory values;
    size_t channels, height, width;
};
using NetOutput = std::variant<std::shared_ptr<const Plane>, FloatOutput>;

struct InputSpec {
    size_t channels;
    std::vector<float> scale, low, high;  // of each channel
    size_t rate = 1;                      // its rows for each row of the coarsest input

    // Whether int16 values count as they are.
    bool plain() const;

    // For some of the channels, in other units.
    InputSpec part(size_t from, size_t count, float unit) const;
};

// Between a row of positions, `stride` values apart, and arrays in which `width` values of each channel lie side by side,
// and the channels `apart` values from each other.
template <typename Value>  // int16_t, int32_t; times `scale` on the way out
void take_apart(const Value* row, size_t stride, size_t channels, size_t width, float scale, float* out, size_t apart);
void put_together(const int16_t* values, const InputSpec& spec, int16_t* to);  // those of one position
template <typename Value>  // float, int16_t
void put_together(const Value* values, std::ptrdiff_t apart, size_t width, const InputSpec& spec, int16_t* row, size_t stride);

// A convolution of one tensor, whose sums are added to those of the layer's others. Tensors count the inputs, then the
// layers.
struct TermSpec {
    size_t source;
    size_t height, width;         // of the kernel
    size_t above, before;         // rows and columns of the kernel before its position; beyond the tensor are zeros
    std::vector<int16_t> weights;  // (outputs, channels of the source, height, width)
    size_t stride = 1;             // rows and columns of the source for each of the layer's
};

// A tensor of as many channels that is added to a layer's sums: value << shift of each channel.
struct SkipSpec {
    size_t source;
    std::vector<int32_t> shift;
};

// clamp(leak((sum of terms + bias + skips) >> shift), low, high) per channel, 0 where the gate's value is not positive,
// then a pixel shuffle by `shuffle`. Where a bound is no int16, no layer and no plane may take it, and it has no shuffle and
// no gate; nor has a layer with skips or a gate a shuffle.
struct LayerSpec {
    std::vector<TermSpec> terms;
    std::vector<int32_t> bias, shift, low, high;
    bool leak = false;
    size_t shuffle = 1;
    std::vector<SkipSpec> skips = {};
    std::optional<size_t> gate = {};  // an input of as many channels
};

// Channels `first` to `first + channels` of a tensor, of every `step`-th row and column from `row` and `column`.
struct PartSpec {
    size_t tensor;
    size_t first, channels;
    size_t step = 1, row = 0, column = 0;
};

// Parts of equal sizes, one after the other along the channels.
struct OutputSpec {
    std::vector<PartSpec> parts;
    bool plane;       // or else float32
    float scale = 1;  // times which float32 are given
};

class IntegerNet {
  public:
    // Throws NetError for a network whose parts do not fit each other.
    IntegerNet(std::vector<InputSpec> inputs, std::vector<LayerSpec> layers, std::vector<OutputSpec> outputs,
               Workers& workers, const Dots& dots = default_dots());
    ~IntegerNet();

    // Runs it; may be called from several threads. Throws NetError for inputs of other channels or of unequal sizes.
    std::vector<NetOutput> run(const std::vector<NetInput>& inputs) const;

    const Dots& dots() const;

    // Of its weights.
    size_t bytes() const;

  private:
    friend class NetStream;

    std::unique_ptr<const struct NetPlan> plan_;
};

// A run over the rows of its inputs from the top down, some at a time: what later rows need of earlier ones is kept, so
// that nothing is computed twice, and nothing else is in memory. Its outputs are the rows of those of `IntegerNet::run`.
class NetStream {
  public:
    // The network must live as long. Throws NetError for one with an output of some rows alone,
    // or of several tensors.
    explicit NetStream(const IntegerNet& net);
    ~NetStream();

    // The next rows of each input, the last ones if so said, and of each output as many rows that follow as are known of all
    // outputs, which may be none. Throws NetError as `run` does, for other columns than before, and after the last rows.
    std::vector<NetOutput> advance(const std::vector<NetInput>& inputs, bool last);

  private:
    std::unique_ptr<class NetRows> rows_;
};

}  // namespace basic
