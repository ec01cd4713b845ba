// Inner loops of integer convolutions, in one version per instruction set. All give the same integers.
//
// The fastest that the processor can run is the default; the environment variable BASIC_DOTS_KERNEL names another,
// and so may whoever makes an IntegerNet.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace basic {

// How a layer's sums become its outputs, for the channels of a block: clamp(leak(sum >> shift), low, high).
struct Requantisation {
    const int32_t* shift;
    const int32_t* low;
    const int32_t* high;
    bool leak;  // negative results are multiplied by 2^-kLeakBits and rounded to the nearest, halves up
};

inline constexpr int kLeakBits = 7;

// Channels of a tensor at one place of a kernel: 2 pairs values from `input` on for a position 0, `stride` values further
// for each next. `tensor` tells which: only values of one and the same lie at some distance from each other.
struct DotsTap {
    const int16_t *tensor, *input;
    size_t stride, pairs;
};

// A tensor whose values are added to sums, channel by channel: value << shift, modulo 2^32.
struct DotsSkip {
    const int16_t* values;  // of the first channel at a position 0
    size_t stride;
    const int32_t* shift;
};

// A tensor that lets an output through where its own value is positive, and else makes it 0. Whole vectors are read.
struct DotsGate {
    const int16_t* values = nullptr;  // of the first channel at a position 0; none: all outputs go through
    size_t stride = 0;
};

// What becomes of sums, without their ever leaving the registers: those of p, and of all skips at position at[p], through
// the gate at position at[p], to outputs[to[p] * stride + c].
struct DotsFinish {
    Requantisation how;
    const DotsSkip* skips;
    size_t skip_count;
    DotsGate gate;
    const uint32_t* at;
    int16_t* outputs;
    size_t stride;
    const uint32_t* to;
};

// Squares of 2x2 positions of a layer of kernels of up to 3x3, of which square k reads the 4x4 positions from
// values + at[k] * stride on, whose rows are `row` values from each other.
struct Squares {
    const int16_t* values;
    size_t row, stride;
    const uint32_t* at;
    size_t count, channels;
};

inline constexpr size_t kSquarePoints = 16;  // of a square, of which winograd.hpp tells

// What of a value counts: all of it, or one of two parts, value = 4 high + low and 0 <= low < 4.
enum class ValuePart { whole, high, low };

struct Dots {
    const char* name;
    size_t lanes;         // output channels of a vector
    size_t vectors;       // vectors of a block of output channels, at most
    size_t positions;     // lists of positions are multiples of it
    size_t weight_bytes;  // weights that are summed in one go, at most: they stay in a cache while the positions pass

    // What is faster for small layers, of as many lanes, whose `positions` divide this one's; null: this is.
    const Dots* small;
    bool (*is_small)(size_t taps, size_t pairs, size_t vectors);  // of a sum

    // The order in which `accumulate` reads the weights of taps of so many pairs, (pairs of all taps, channels of the
    // vectors, 2) before, and how many values a vector has in it, which fill lines of the caches; null: in that one.
    size_t (*packed)(std::span<const size_t> pairs);
    void (*pack)(const int16_t* weights, std::span<const size_t> pairs, size_t vectors, int16_t* to);

    // sums[p][c] += sum over all taps, and over k < 2 pairs, of weights[k / 2][c][k % 2] * input[at[p] * stride + k],
    // modulo 2^32, where c counts the channels of `vectors` vectors, and the weights of a tap follow those of the one
    // before, which are packed together if they are packed; with a bias, sums[p][c] = bias[c] + those. With a finish, that
    // becomes of them, and sums stay as they were.
    void (*accumulate)(const DotsTap* taps, size_t count, const int16_t* weights, const int32_t* bias,
                       const uint32_t* at, size_t positions, size_t vectors, int32_t* sums, const DotsFinish* finish);

    // The points of squares, modulo 2^16: points[point * apart + square * channels + c]. `least` and `most` become the least
    // and the largest value of each channel, if those pass what is there. Null, as the rest for squares: sums of all
    // positions are faster.
    void (*read_squares)(const Squares& squares, ValuePart part, int16_t* points, size_t apart, int16_t* least,
                         int16_t* most);
    size_t values;  // channels that it takes at a time, and so needs at least

    // What becomes of sums at the points of squares, sums[point * apart + square * channels + c]: the outputs of the
    // square's positions 4 square to 4 square + 3, of the sums that they stand for plus bias; with `low`, sums are those
    // of high parts. No skips. Of positions that are the same place, the first of a square counts.
    void (*finish_squares)(const int32_t* sums, const int32_t* low, size_t apart, size_t squares, size_t vectors,
                           const int32_t* bias, const DotsFinish& finish);

    // outputs[p][c] of sums[p][c]; all low and high fit int16, or int32 for the wide one, which may work in place.
    void (*requantise)(const int32_t* sums, size_t positions, size_t vectors, const Requantisation& how,
                       int16_t* outputs);
    void (*requantise_wide)(const int32_t* sums, size_t positions, size_t vectors, const Requantisation& how,
                            int32_t* outputs);
};

// Those this processor can run, fastest first; the last is "scalar".
std::span<const Dots* const> available_dots();

// Throws KernelError for any name but those.
const Dots& dots_named(std::string_view name);

// Throws KernelError if BASIC_DOTS_KERNEL names none of them.
const Dots& default_dots();

}  // namespace basic
