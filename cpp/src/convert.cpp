// Written for auto-vectorisation on any target, as passes.cpp.
#include "basic/convert.hpp"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <type_traits>

#include "unrolled.hpp"
#include "vectorised.hpp"

namespace basic {
namespace {

constexpr size_t kAtOnce = 16 << 10;  // values that a thread takes at a time

// As an integer; of a float, which int32 cannot have in all its size: what is beyond int16, or NaN, becomes something
// else.
inline int32_t whole(float value) {
    const float bounded = value > -32769.0f ? value : -32769.0f;
    return static_cast<int32_t>(bounded < 32768.0f ? bounded : 32768.0f);
}
inline int32_t whole(int32_t value) { return value; }

// `count` values that lie `from_stride` and `to_stride` apart.
template <typename From, typename To>
inline BASIC_ALWAYS_INLINE bool convert_line(const From* from, std::ptrdiff_t from_stride, To* to, std::ptrdiff_t to_stride, size_t count,
                  float scale) {
    const auto values = static_cast<std::ptrdiff_t>(count);
    int32_t others = 0;
    for (std::ptrdiff_t i = 0; i < values; ++i) {
        const From value = from[i * from_stride];
        To& result = to[i * to_stride];
        if constexpr (std::is_same_v<To, float>) {
            result = static_cast<float>(value) * scale;
        } else if constexpr (std::is_same_v<From, To>) {
            result = value;
        } else {
            result = static_cast<To>(whole(value));
            others |= static_cast<From>(result) != value;
        }
    }
    return others == 0;
}

// The same; compilers make other loops of strides that they know.
template <typename From, typename To>
BASIC_VECTORISED
bool convert_line(const From* from, To* to, const Axis& axis, size_t count, float scale) {
    if (axis.to != 1) return convert_line(from, axis.from, to, axis.to, count, scale);
    if (axis.from != 1) return convert_line(from, axis.from, to, 1, count, scale);
    if (std::is_same_v<From, To> && scale == 1) {
        std::memcpy(to, from, count * sizeof(To));
        return true;
    }
    return convert_line(from, 1, to, 1, count, scale);
}

// In the order in which they lie in the target, the closest ones last; axes that are one in both arrays as one.
std::vector<Axis> merged(std::vector<Axis> axes) {
    std::erase_if(axes, [](const Axis& axis) { return axis.size == 1; });
    std::stable_sort(axes.begin(), axes.end(),
                     [](const Axis& a, const Axis& b) { return std::abs(a.to) > std::abs(b.to); });
    std::vector<Axis> result;
    for (const Axis& axis : axes) {
        const auto size = static_cast<std::ptrdiff_t>(axis.size);
        if (!result.empty() && result.back().from == axis.from * size && result.back().to == axis.to * size)
            result.back() = {result.back().size * axis.size, axis.from, axis.to};
        else
            result.push_back(axis);
    }
    if (result.empty()) result.push_back({1, 1, 1});
    return result;
}

}  // namespace

template <typename From, typename To>
bool convert(const From* from, To* to, std::vector<Axis> axes, float scale, Workers& workers) {
    for (const Axis& axis : axes)
        if (axis.size == 0) return true;
    axes = merged(std::move(axes));
    const Axis inner = axes.back();
    axes.pop_back();
    size_t lines = 1;
    for (const Axis& axis : axes) lines *= axis.size;
    const size_t across = (inner.size + kAtOnce - 1) / kAtOnce;  // pieces of a line, or lines of a piece
    const size_t together = std::max<size_t>(1, kAtOnce / inner.size);
    std::atomic<bool> all{true};
    workers.each((lines + together - 1) / together * across, [&](size_t piece) {
        const auto first = static_cast<std::ptrdiff_t>(piece % across * kAtOnce);
        const size_t count = std::min(kAtOnce, inner.size - static_cast<size_t>(first));
        const size_t last = std::min(lines, (piece / across + 1) * together);
        for (size_t line = piece / across * together; line < last; ++line) {
            std::ptrdiff_t source = first * inner.from, target = first * inner.to;
            size_t rest = line;
            for (auto axis = axes.rbegin(); axis != axes.rend(); rest /= axis++->size) {
                const auto place = static_cast<std::ptrdiff_t>(rest % axis->size);
                source += place * axis->from, target += place * axis->to;
            }
            if (!convert_line(from + source, to + target, inner, count, scale)) all = false;
        }
    });
    return all;
}

template bool convert(const uint8_t*, uint8_t*, std::vector<Axis>, float, Workers&);
template bool convert(const int16_t*, int16_t*, std::vector<Axis>, float, Workers&);
template bool convert(const int32_t*, int16_t*, std::vector<Axis>, float, Workers&);
template bool convert(const float*, int16_t*, std::vector<Axis>, float, Workers&);
template bool convert(const int16_t*, float*, std::vector<Axis>, float, Workers&);
template bool convert(const int32_t*, float*, std::vector<Axis>, float, Workers&);
template bool convert(const float*, float*, std::vector<Axis>, float, Workers&);

}  // namespace basic
