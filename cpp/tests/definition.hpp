// What an integer network gives, computed as its definition says.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <variant>
#include <vector>

#include "basic/integer_net.hpp"

namespace basic {

// A tensor of the definition: (channels, height, width).
struct Tensor {
    size_t channels, height, width;
    std::vector<int64_t> values;

    Tensor(size_t c, size_t h, size_t w) : channels(c), height(h), width(w), values(c * h * w) {}
    int64_t& at(size_t c, size_t y, size_t x) { return values[(c * height + y) * width + x]; }
    int64_t at(size_t c, size_t y, size_t x) const { return values[(c * height + y) * width + x]; }
    int64_t padded(size_t c, int64_t y, int64_t x) const {
        const bool inside = y >= 0 && x >= 0 && y < static_cast<int64_t>(height) && x < static_cast<int64_t>(width);
        return inside ? values[(c * height + static_cast<size_t>(y)) * width + static_cast<size_t>(x)] : 0;
    }
};

inline Tensor read(const InputSpec& spec, const std::vector<float>& values, size_t height, size_t width) {
    Tensor result(spec.channels, height, width);
    for (size_t k = 0; k < values.size(); ++k) {
        const size_t c = k / (height * width);
        const float value = std::floor(values[k] * spec.scale[c] + 0.5f);
        result.values[k] = static_cast<int64_t>(value > spec.low[c] ? std::min(value, spec.high[c]) : spec.low[c]);
    }
    return result;
}

inline int64_t leaked(int64_t value) { return value < 0 ? (value + 64) >> 7 : value; }

inline Tensor layer(const LayerSpec& spec, const std::vector<Tensor>& tensors) {
    const Tensor& first = tensors[spec.terms[0].source];
    const size_t side = spec.shuffle, outputs = spec.bias.size();
    const size_t height = first.height / spec.terms[0].stride, width = first.width / spec.terms[0].stride;
    Tensor result(outputs / (side * side), height * side, width * side);
    for (size_t o = 0; o < outputs; ++o)
        for (size_t y = 0; y < height; ++y)
            for (size_t x = 0; x < width; ++x) {
                int64_t sum = spec.bias[o];
                for (const SkipSpec& skip : spec.skips)
                    sum += tensors[skip.source].padded(o, static_cast<int64_t>(y), static_cast<int64_t>(x)) *
                           (int64_t{1} << skip.shift[o]);
                for (const TermSpec& term : spec.terms) {
                    const Tensor& source = tensors[term.source];
                    const int16_t* weight = term.weights.data() + o * source.channels * term.height * term.width;
                    for (size_t c = 0; c < source.channels; ++c)
                        for (size_t i = 0; i < term.height; ++i)
                            for (size_t j = 0; j < term.width; ++j)
                                sum += *weight++ *
                                       source.padded(c, static_cast<int64_t>(y * term.stride + i - term.above),
                                                     static_cast<int64_t>(x * term.stride + j - term.before));
                }
                int64_t value = static_cast<int32_t>(sum) >> spec.shift[o];  // sums wrap
                if (spec.leak) value = leaked(value);
                value = std::clamp<int64_t>(value, spec.low[o], spec.high[o]);
                if (spec.gate && tensors[*spec.gate].at(o, y, x) <= 0) value = 0;
                const size_t place = o % (side * side);
                result.at(o / (side * side), y * side + place / side, x * side + place % side) = value;
            }
    return result;
}

inline std::vector<float> floats_of(const basic::NetOutput& output) {
    if (const auto* plane = std::get_if<std::shared_ptr<const Plane>>(&output)) {
        std::vector<float> values;
        for (size_t c = 0; c < (*plane)->channels(); ++c)
            for (size_t y = 0; y < (*plane)->height(); ++y)
                for (size_t x = 0; x < (*plane)->width(); ++x)
                    values.push_back((*plane)->data()[(*plane)->position(y, x) * (*plane)->stride() + c]);
        return values;
    }
    const auto& floats = std::get<FloatOutput>(output);
    return {floats.values.as<float>(), floats.values.as<float>() + floats.channels * floats.height * floats.width};
}

}  // namespace basic
