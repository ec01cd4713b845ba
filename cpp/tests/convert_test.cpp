// Tests of convert; built with the address and undefined-behaviour sanitizers in CI.
#include "basic/convert.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "check.hpp"

namespace {

using basic::Axis;
using basic::convert;
using basic::Workers;

// An array of three axes in any order, of which every `step`-th value counts.
struct Layout {
    std::vector<std::ptrdiff_t> strides;
    size_t values;
};

Layout layout(const std::vector<size_t>& sizes, std::mt19937& random) {
    std::vector<size_t> order = {0, 1, 2};
    std::shuffle(order.begin(), order.end(), random);
    Layout result{std::vector<std::ptrdiff_t>(3), 1};
    for (const size_t axis : order) {
        result.values *= 1 + random() % 2;
        result.strides[axis] = static_cast<std::ptrdiff_t>(result.values);
        result.values *= sizes[axis];
    }
    return result;
}

template <typename From, typename To>
void test_layouts(float scale) {
    std::mt19937 random(3);
    for (int round = 0; round < 200; ++round) {
        const std::vector<size_t> sizes = {random() % 4, 1 + random() % 40, 1 + random() % (round % 10 == 0 ? 9000 : 30)};
        const Layout from = layout(sizes, random), to = layout(sizes, random);
        std::vector<From> values(from.values);
        for (From& value : values) value = static_cast<From>(random() % 200);
        std::vector<To> found(to.values, To{9}), wanted = found;
        std::vector<Axis> axes;
        for (size_t k = 0; k < 3; ++k) axes.push_back({sizes[k], from.strides[k], to.strides[k]});
        CHECK(convert(values.data(), found.data(), axes, scale, Workers::of(1 + random() % 3)));
        for (size_t a = 0; a < sizes[0]; ++a)
            for (size_t b = 0; b < sizes[1]; ++b)
                for (size_t c = 0; c < sizes[2]; ++c) {
                    const auto place = [&](const Layout& array) {
                        return a * static_cast<size_t>(array.strides[0]) + b * static_cast<size_t>(array.strides[1]) +
                               c * static_cast<size_t>(array.strides[2]);
                    };
                    wanted[place(to)] = static_cast<To>(static_cast<float>(values[place(from)]) * scale);
                }
        CHECK(found == wanted);  // and nothing beside them
    }
}

void test_what_does_not_fit() {
    const std::vector<float> beyond = {32768, -32769, 0.5f, 1e30f, -1e30f, std::numeric_limits<float>::infinity(),
                                       -std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()};
    for (const float wrong : beyond) {
        std::vector<float> values(100000, 1);
        std::vector<int16_t> found(values.size());
        const std::vector<Axis> axes = {{values.size(), 1, 1}};
        CHECK(convert(values.data(), found.data(), axes, 1, Workers::of(2)));
        values[99999] = wrong;
        CHECK(!convert(values.data(), found.data(), axes, 1, Workers::of(2)));
    }
    const std::vector<int32_t> integers = {INT32_MIN, -32768, 32767, INT32_MAX};
    std::vector<int16_t> found(4);
    CHECK(!convert(integers.data(), found.data(), {{4, 1, 1}}, 1, Workers::of(1)));
    CHECK(convert(integers.data() + 1, found.data(), {{2, 1, 1}}, 1, Workers::of(1)));
    CHECK(found[0] == -32768 && found[1] == 32767);
}

void test_without_axes() {
    const float value = 3;
    float found = 0;
    CHECK(convert(&value, &found, {}, 2, Workers::of(1)) && found == 6);
}

}  // namespace

int main() {
    test_layouts<uint8_t, uint8_t>(1);
    test_layouts<int16_t, int16_t>(1);
    test_layouts<int32_t, int16_t>(1);
    test_layouts<float, int16_t>(1);
    test_layouts<int16_t, float>(0.25f);
    test_layouts<int32_t, float>(-3);
    test_layouts<float, float>(0.5f);
    test_what_does_not_fit();
    test_without_axes();
    std::puts("convert: all tests passed");
}
