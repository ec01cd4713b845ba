#include <algorithm>

#include "basic/integer_net.hpp"
#include "vectorised.hpp"

namespace basic {

Plane::Plane(size_t channels, size_t height, size_t width)
    : channels_(channels), height_(height), width_(width), stride_(channels + channels % 2) {
    const size_t across = width + 2 * kBorder, positions = (height + 2 * kBorder) * across;
    data_ = Memory(positions * stride_ * sizeof(int16_t));
    if (stride_ != channels_) {
        std::fill_n(data(), positions * stride_, int16_t{0});
        return;
    }
    // The border alone; the end of a row and the start of the next lie side by side.
    int16_t* row = data();
    row = std::fill_n(row, (kBorder * across + kBorder) * stride_, int16_t{0});
    for (size_t k = 0; k < height; ++k) {
        row += width * stride_;
        row = std::fill_n(row, (k + 1 < height ? 2 * kBorder : kBorder + kBorder * across) * stride_, int16_t{0});
    }
}

namespace {

// Of a channel's values, as whole numbers; `low` and `high` are int16. Bounds come first, so that a conversion rounds
// towards zero and can be undone below it: a call of floor for each value would take most of the time.
inline int16_t whole(float value, float low, float high) {
    const float bounded = value > low ? std::min(value, high) : low;  // NaN becomes `low`
    const auto truncated = static_cast<int32_t>(bounded);
    return static_cast<int16_t>(truncated - (static_cast<float>(truncated) > bounded));
}

}  // namespace

bool InputSpec::plain() const {
    return std::all_of(scale.begin(), scale.end(), [](float value) { return value == 1; }) &&
           std::all_of(low.begin(), low.end(), [](float bound) { return bound <= INT16_MIN; }) &&
           std::all_of(high.begin(), high.end(), [](float bound) { return bound >= INT16_MAX; });
}

BASIC_VECTORISED
void put_together(const int16_t* values, const InputSpec& spec, int16_t* to) {
    const float *scale = spec.scale.data(), *low = spec.low.data(), *high = spec.high.data();
    for (size_t c = 0; c < spec.channels; ++c)
        to[c] = whole(static_cast<float>(values[c]) * scale[c] + 0.5f, low[c], high[c]);
}

template <typename Value>
BASIC_VECTORISED
void put_together(const Value* values, std::ptrdiff_t apart, size_t width, const InputSpec& spec, int16_t* row, size_t stride) {
    constexpr size_t kColumns = 8;
    for (size_t x = 0; x < width; x += kColumns) {
        const size_t columns = std::min(kColumns, width - x);
        for (size_t c = 0; c < spec.channels; ++c) {
            const Value* from = values + static_cast<std::ptrdiff_t>(c) * apart + x;
            const float scale = spec.scale[c], low = spec.low[c], high = spec.high[c];
            int16_t block[kColumns];
            for (size_t k = 0; k < columns; ++k) block[k] = whole(static_cast<float>(from[k]) * scale + 0.5f, low, high);
            for (size_t k = 0; k < columns; ++k) row[(x + k) * stride + c] = block[k];
        }
    }
}

template void put_together(const float*, std::ptrdiff_t, size_t, const InputSpec&, int16_t*, size_t);
template void put_together(const int16_t*, std::ptrdiff_t, size_t, const InputSpec&, int16_t*, size_t);

template <typename Value>
BASIC_VECTORISED
void take_apart(const Value* row, size_t stride, size_t channels, size_t width, float scale, float* out, size_t apart) {
    constexpr size_t kChannels = 16, kColumns = 8;
    size_t c = 0;
    for (; c + kChannels <= channels; c += kChannels) {
        size_t x = 0;
        for (; x + kColumns <= width; x += kColumns) {
            float block[kChannels][kColumns];
            for (size_t k = 0; k < kColumns; ++k)
                for (size_t i = 0; i < kChannels; ++i)
                    block[i][k] = static_cast<float>(row[(x + k) * stride + c + i]) * scale;
            for (size_t i = 0; i < kChannels; ++i) std::copy_n(block[i], kColumns, out + (c + i) * apart + x);
        }
        for (; x < width; ++x)
            for (size_t i = 0; i < kChannels; ++i)
                out[(c + i) * apart + x] = static_cast<float>(row[x * stride + c + i]) * scale;
    }
    for (; c < channels; ++c)
        for (size_t x = 0; x < width; ++x) out[c * apart + x] = static_cast<float>(row[x * stride + c]) * scale;
}

template void take_apart(const int16_t*, size_t, size_t, size_t, float, float*, size_t);
template void take_apart(const int32_t*, size_t, size_t, size_t, float, float*, size_t);

}  // namespace basic
