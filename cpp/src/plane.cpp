#include <algorithm>
#include <bit>
#include <cstring>

#include "basic/integer_net.hpp"
#include "net_plan.hpp"
#include "unrolled.hpp"
#include "vectorised.hpp"

#ifdef __GNUC__
#pragma GCC diagnostic ignored "-Wpsabi"  // vectors go to inlined functions alone
#endif

namespace basic {

Plane::Plane(size_t channels, size_t height, size_t width, size_t unit, Border border)
    : channels_(channels), height_(height), width_(width), stride_(rounded_up(channels, unit)) {
    const size_t across = width + 2 * kBorder, positions = (height + 2 * kBorder) * across;
    data_ = Memory(positions * stride_ * sizeof(int16_t));
    if (stride_ != channels_ && unit == 2) {  // whoever asks for more writes whole positions
        std::fill_n(data(), positions * stride_, int16_t{0});
        return;
    }
    // The border alone; the end of a row and the start of the next lie side by side.
    const size_t ends = border == Border::all ? kBorder * across : 0;  // positions of the rows above, and of those below
    int16_t* row = data() + (kBorder * across - ends) * stride_;
    row = std::fill_n(row, (ends + kBorder) * stride_, int16_t{0});
    for (size_t k = 0; k < height; ++k) {
        row += width * stride_;
        row = std::fill_n(row, (k + 1 < height ? 2 * kBorder : kBorder + ends) * stride_, int16_t{0});
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

InputSpec InputSpec::part(size_t from, size_t count, float unit) const {
    const auto some = [&](const std::vector<float>& values) {
        const auto first = values.begin() + static_cast<std::ptrdiff_t>(from);
        return std::vector<float>(first, first + static_cast<std::ptrdiff_t>(count));
    };
    InputSpec result{count, some(scale), some(low), some(high), rate};
    for (float& value : result.scale) value *= unit;
    return result;
}

BASIC_VECTORISED
void put_together(const int16_t* values, const InputSpec& spec, int16_t* to) {
    const float *scale = spec.scale.data(), *low = spec.low.data(), *high = spec.high.data();
    for (size_t c = 0; c < spec.channels; ++c)
        to[c] = whole(static_cast<float>(values[c]) * scale[c] + 0.5f, low[c], high[c]);
}

namespace {

// Eight columns of four channels are turned by words: scalars of each column's values at once, where plain loops would store
// every value on its own.
constexpr size_t kColumns = 8, kChannels = 4;
using Floats = float __attribute__((vector_size(kColumns * sizeof(float))));
using Ints = int32_t __attribute__((vector_size(kColumns * sizeof(int32_t))));
using Halves = uint32_t __attribute__((vector_size(kColumns * sizeof(uint32_t))));
using Words = uint64_t __attribute__((vector_size(kColumns * sizeof(uint64_t))));

// Words of two values that lie side by side, and of two such pairs.
inline BASIC_ALWAYS_INLINE Halves pairs_of(Halves first, Halves second) {
    if constexpr (std::endian::native == std::endian::little) return first | second << 16;
    return first << 16 | second;
}
inline BASIC_ALWAYS_INLINE Words words_of(Halves first, Halves second) {
    const Words low = __builtin_convertvector(first, Words), high = __builtin_convertvector(second, Words);
    if constexpr (std::endian::native == std::endian::little) return low | high << 32;
    return low << 32 | high;
}

inline BASIC_ALWAYS_INLINE Floats as_floats(const float* from) {
    Floats values;
    std::memcpy(&values, from, sizeof values);
    return values;
}

inline BASIC_ALWAYS_INLINE Floats as_floats(const int16_t* from) {
    int16_t __attribute__((vector_size(kColumns * sizeof(int16_t)))) values;
    std::memcpy(&values, from, sizeof values);
    return __builtin_convertvector(values, Floats);
}

// The same as `whole`, of eight values.
inline BASIC_ALWAYS_INLINE Halves whole(Floats values, float low, float high) {
    const Floats least = low - Floats{}, most = high - Floats{};
    Floats bounded = values < most ? values : most;
    bounded = values > least ? bounded : least;  // NaN becomes `low`
    const Ints truncated = __builtin_convertvector(bounded, Ints);
    return reinterpret_cast<Halves>(truncated + (__builtin_convertvector(truncated, Floats) > bounded));
}

template <typename Value>
inline BASIC_ALWAYS_INLINE void put_words(const Value* values, std::ptrdiff_t apart, const InputSpec& spec, size_t channel,
                                          int16_t* row, size_t stride) {
    Halves found[kChannels];
    unrolled<kChannels>([&](int k) BASIC_ALWAYS_INLINE {
        const size_t c = channel + static_cast<size_t>(k);
        found[k] = whole(as_floats(values + k * apart) * spec.scale[c] + 0.5f, spec.low[c], spec.high[c]) & 0xffffu;
    });
    const Words words = words_of(pairs_of(found[0], found[1]), pairs_of(found[2], found[3]));
    unrolled<kColumns>([&](int x) BASIC_ALWAYS_INLINE {
        const uint64_t word = words[x];
        std::memcpy(row + static_cast<size_t>(x) * stride, &word, sizeof word);
    });
}

}  // namespace

template <typename Value>
BASIC_VECTORISED
void put_together(const Value* values, std::ptrdiff_t apart, size_t width, const InputSpec& spec, int16_t* row, size_t stride) {
    const size_t columns = width - width % kColumns, channels = spec.channels - spec.channels % kChannels;
    const auto put_one = [&](size_t c, size_t x) {
        const Value value = values[static_cast<std::ptrdiff_t>(c) * apart + static_cast<std::ptrdiff_t>(x)];
        row[x * stride + c] = whole(static_cast<float>(value) * spec.scale[c] + 0.5f, spec.low[c], spec.high[c]);
    };
    for (size_t x = 0; x < columns; x += kColumns) {
        for (size_t c = 0; c < channels; c += kChannels)
            put_words(values + static_cast<std::ptrdiff_t>(c) * apart + x, apart, spec, c, row + x * stride + c, stride);
        for (size_t c = channels; c < spec.channels; ++c)
            for (size_t k = x; k < x + kColumns; ++k) put_one(c, k);
    }
    for (size_t x = columns; x < width; ++x)
        for (size_t c = 0; c < spec.channels; ++c) put_one(c, x);
}

template void put_together(const float*, std::ptrdiff_t, size_t, const InputSpec&, int16_t*, size_t);
template void put_together(const int16_t*, std::ptrdiff_t, size_t, const InputSpec&, int16_t*, size_t);

namespace {

// put(0, values), put(1, values) and so on of eight columns of four channels.
template <typename Put>
inline BASIC_ALWAYS_INLINE void take_words(const int16_t* row, size_t stride, const Put& put) {
    Words words;
    unrolled<kColumns>([&](int x) BASIC_ALWAYS_INLINE {
        uint64_t word;
        std::memcpy(&word, row + static_cast<size_t>(x) * stride, sizeof word);
        words[x] = word;
    });
    constexpr bool kLittle = std::endian::native == std::endian::little;
    constexpr int kFirst = kLittle ? 0 : 2, kOdd = kLittle ? 1 : 0;  // the pair of the low half, what is above in a pair
    const Halves low = __builtin_convertvector(words, Halves), high = __builtin_convertvector(words >> 32, Halves);
    put(kFirst + kOdd, reinterpret_cast<Ints>(low) >> 16);
    put(kFirst + 1 - kOdd, reinterpret_cast<Ints>(low << 16) >> 16);
    put(2 - kFirst + kOdd, reinterpret_cast<Ints>(high) >> 16);
    put(3 - kFirst - kOdd, reinterpret_cast<Ints>(high << 16) >> 16);
}

template <typename Put>
inline BASIC_ALWAYS_INLINE void take_words(const int32_t* row, size_t stride, const Put& put) {
    unrolled<kChannels>([&](int c) BASIC_ALWAYS_INLINE {
        const int32_t* at = row + c;
        put(c, Ints{at[0], at[stride], at[2 * stride], at[3 * stride], at[4 * stride], at[5 * stride], at[6 * stride],
                    at[7 * stride]});
    });
}

}  // namespace

template <typename Value>
BASIC_VECTORISED
void take_apart(const Value* row, size_t stride, size_t channels, size_t width, float scale, float* out, size_t apart) {
    const size_t columns = width - width % kColumns, together = channels - channels % kChannels;
    const auto take_one = [&](size_t c, size_t x) { out[c * apart + x] = static_cast<float>(row[x * stride + c]) * scale; };
    for (size_t x = 0; x < columns; x += kColumns) {
        for (size_t c = 0; c < together; c += kChannels)
            take_words(row + x * stride + c, stride, [&](int k, Ints found) BASIC_ALWAYS_INLINE {
                const Floats values = __builtin_convertvector(found, Floats) * scale;
                std::memcpy(out + (c + static_cast<size_t>(k)) * apart + x, &values, sizeof values);
            });
        for (size_t c = together; c < channels; ++c)
            for (size_t k = x; k < x + kColumns; ++k) take_one(c, k);
    }
    for (size_t x = columns; x < width; ++x)
        for (size_t c = 0; c < channels; ++c) take_one(c, x);
}

template void take_apart(const int16_t*, size_t, size_t, size_t, float, float*, size_t);
template void take_apart(const int32_t*, size_t, size_t, size_t, float, float*, size_t);

}  // namespace basic
