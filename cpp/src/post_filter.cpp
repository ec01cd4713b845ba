// Written for auto-vectorisation on any target. Everything is an integer of less than 2^22 in float32, so that no operation
// rounds, in whatever order and by whichever instructions it is done.
#include "basic/post_filter.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "filter_lines.hpp"

namespace basic {
namespace {

constexpr size_t kBlock = 512;       // columns at a time, whose sums stay in the nearest cache

// Samples of a register, of which the sums of all colours of kAtOnce stay in registers; compilers without such registers
// make do with several.
using Eight = float __attribute__((vector_size(32)));
using Sixteen = float __attribute__((vector_size(64)));
constexpr size_t kAtOnce = 2, kMostSamples = kAtOnce * sizeof(Sixteen) / sizeof(float);

template <typename Samples>
inline BASIC_ALWAYS_INLINE void load(Samples& to, const float* from) { std::memcpy(&to, from, sizeof to); }

template <typename Samples>
inline BASIC_ALWAYS_INLINE void clip(Samples& values) {
    constexpr float kClip = kFilterClip;
    values = values < -kClip ? -kClip - Samples{} : values;
    values = values > kClip ? kClip - Samples{} : values;
}

// For each colour, the `count` sums of weight * feature; `count` is a multiple of kMostSamples.
template <typename Samples, size_t kColours>
inline BASIC_ALWAYS_INLINE void sum_in_registers(const Places<float>& places, const float* weights, size_t count,
                                                 float* sums) {
    constexpr size_t kSamples = sizeof(Samples) / sizeof(float);
    for (size_t i = 0; i < count; i += kAtOnce * kSamples) {
        Samples found[kColours][kAtOnce] = {};
        for (size_t k = 0; k < kFilterPairs; ++k)
            unrolled<kColours>([&](int c) BASIC_ALWAYS_INLINE {
                const float* weight = weights + (k * kColours + static_cast<size_t>(c)) * 2;
                unrolled<kAtOnce>([&](int j) BASIC_ALWAYS_INLINE {
                    const size_t at = static_cast<size_t>(c) * places.planes + i + static_cast<size_t>(j) * kSamples;
                    Samples sample, a, b;
                    load(sample, places.centre + at), load(a, places.near[k] + at), load(b, places.far[k] + at);
                    a -= sample, b -= sample;
                    const Samples linear = a + b;
                    clip(a), clip(b);
                    const Samples clipped = a + b;
                    unrolled<kColours>([&](int out) BASIC_ALWAYS_INLINE {
                        const float* of = weight + static_cast<size_t>(out) * kFilterPairs * kColours * 2;
                        found[out][j] += of[0] * clipped;
                        found[out][j] += of[1] * linear;
                    });
                });
            });
        unrolled<kColours>([&](int out) BASIC_ALWAYS_INLINE {
            unrolled<kAtOnce>([&](int j) BASIC_ALWAYS_INLINE {
                std::memcpy(sums + static_cast<size_t>(out) * kBlock + i + static_cast<size_t>(j) * kSamples,
                            &found[out][j], sizeof(Samples));
            });
        });
    }
}

template <size_t kColours>
BASIC_VECTORISED
void sum_features(const Places<float>& places, const float* weights, size_t count, float* sums) {
    sum_in_registers<Eight, kColours>(places, weights, count, sums);
}

#if defined(BASIC_HAS_CLONES)
template <size_t kColours>
__attribute__((target("arch=x86-64-v4")))
void sum_features_wide(const Places<float>& places, const float* weights, size_t count, float* sums) {
    sum_in_registers<Sixteen, kColours>(places, weights, count, sums);
}
#endif

using SumFeatures = void (*)(const Places<float>&, const float*, size_t, float*);

template <size_t kColours>
SumFeatures sum_of_features() {
#if defined(BASIC_HAS_CLONES)
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512cd"))
        return &sum_features_wide<kColours>;
#endif
    return &sum_features<kColours>;
}

// The pixels of samples and their sums.
template <size_t kColours>
BASIC_VECTORISED
void finish(const float* __restrict centre, size_t planes, const float* __restrict sums,
                                       size_t count, uint8_t* __restrict pixels) {
    constexpr int kHalf = 1 << (kFilterBits - 1);
    for (size_t i = 0; i < count; ++i)
        unrolled<kColours>([&](int c) BASIC_ALWAYS_INLINE {
            const auto colour = static_cast<size_t>(c);
            const int by = (static_cast<int>(sums[colour * kBlock + i]) + kHalf) >> kFilterBits;
            const int value = static_cast<int>(centre[colour * planes + i]) + by;
            pixels[i * kColours + colour] = static_cast<uint8_t>(std::clamp(value, 0, 255));
        });
}

// Rows of the picture that one thread filters. What its neighbours overwrite meanwhile has been kept.
class Band {
  public:
    Band(const Picture& picture, const std::vector<float>& weights, size_t first, size_t last)
        : picture_(picture), weights_(weights), first_(first), last_(last),
          lines_(picture.columns, picture.colours, kMostSamples),
          sum_(picture.colours == 3 ? sum_of_features<3>() : sum_of_features<1>()) {
        for (ptrdiff_t k = 1; k <= kMargin; ++k) {
            keep(static_cast<ptrdiff_t>(first) - k);
            keep(static_cast<ptrdiff_t>(last) + k - 1);
        }
    }

    void run() {
        walk(first_, last_, picture_.columns, kBlock, [this](ptrdiff_t row) { load(row); },
             [this](ptrdiff_t row, size_t column, size_t count) { filter(row, column, count); });
    }

  private:
    struct Kept {
        ptrdiff_t row;
        std::vector<uint8_t> bytes;
    };

    void keep(ptrdiff_t row) {
        const uint8_t* from = source(row);
        kept_.push_back({row, {from, from + picture_.columns * picture_.colours}});
    }

    uint8_t* source(ptrdiff_t row) const {
        const ptrdiff_t inside = std::clamp<ptrdiff_t>(row, 0, static_cast<ptrdiff_t>(picture_.rows) - 1);
        return picture_.pixels + inside * picture_.row_stride;
    }

    void load(ptrdiff_t row) {
        const uint8_t* from = source(row);
        for (const Kept& kept : kept_)
            if (kept.row == row) from = kept.bytes.data();
        lines_.load(row, from);
    }

    void filter(ptrdiff_t row, size_t column, size_t count) {
        float sums[3 * kBlock];
        const size_t colours = picture_.colours;
        const Places<float> places = lines_.places(row, column);
        sum_(places, weights_.data(), (count + kMostSamples - 1) / kMostSamples * kMostSamples, sums);
        uint8_t* out = picture_.pixels + row * picture_.row_stride + static_cast<ptrdiff_t>(column * colours);
        (colours == 3 ? &finish<3> : &finish<1>)(places.centre, places.planes, sums, count, out);
    }

    const Picture& picture_;
    const std::vector<float>& weights_;
    size_t first_, last_;
    Lines<float> lines_;
    SumFeatures sum_;
    std::vector<Kept> kept_;
};

}  // namespace

void post_filter(const Picture& picture, std::span<const int8_t> weights, size_t threads) {
    if (picture.colours != 1 && picture.colours != 3) throw std::invalid_argument("pixels have 1 or 3 colours");
    if (weights.size() != filter_weights(picture.colours))
        throw std::invalid_argument("a filter of " + std::to_string(picture.colours) + " colours has " +
                                    std::to_string(filter_weights(picture.colours)) + " weights");
    Workers& workers = Workers::of(threads);
    if (picture.rows == 0 || picture.columns == 0) return;
    const std::vector<float> floats(weights.begin(), weights.end());
    run_bands<Band>(workers, 0, picture.rows, threads, picture, floats);
}

}  // namespace basic
