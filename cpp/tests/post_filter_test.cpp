// Tests of post_filter against its definition; built with the sanitizers in CI.
#include "basic/post_filter.hpp"

#include <algorithm>
#include <array>
#include <random>
#include <stdexcept>
#include <vector>

#include "check.hpp"

namespace {

using basic::Picture;
using basic::filter_weights;
using basic::post_filter;

using Bytes = std::vector<uint8_t>;
using Weights = std::vector<int8_t>;

struct Shape {
    size_t rows, columns, colours;
};

// As the header says it, sample by sample.
Bytes defined(const Bytes& pixels, const Shape& shape, const Weights& weights) {
    constexpr std::array<std::array<int, 2>, 6> kPairs{{{0, 1}, {0, 2}, {1, -1}, {1, 0}, {1, 1}, {2, 0}}};
    const int rows = static_cast<int>(shape.rows), columns = static_cast<int>(shape.columns);
    const auto at = [&](int row, int column, size_t colour) -> int {
        const int y = std::clamp(row, 0, rows - 1), x = std::clamp(column, 0, columns - 1);
        return pixels[(static_cast<size_t>(y * columns + x)) * shape.colours + colour];
    };
    Bytes result;
    for (int row = 0; row < rows; ++row)
        for (int column = 0; column < columns; ++column)
            for (size_t out = 0; out < shape.colours; ++out) {
                int sum = 64;
                const int8_t* weight = weights.data() + out * kPairs.size() * shape.colours * 2;
                for (const auto& [down, right] : kPairs)
                    for (size_t c = 0; c < shape.colours; ++c) {
                        const int sample = at(row, column, c);
                        const int a = at(row + down, column + right, c) - sample;
                        const int b = at(row - down, column - right, c) - sample;
                        sum += *weight++ * (std::clamp(a, -8, 8) + std::clamp(b, -8, 8));
                        sum += *weight++ * (a + b);
                    }
                result.push_back(static_cast<uint8_t>(std::clamp(at(row, column, out) + (sum >> 7), 0, 255)));
            }
    return result;
}

Bytes filtered(Bytes pixels, const Shape& shape, const Weights& weights, size_t threads) {
    post_filter({pixels.data(), static_cast<ptrdiff_t>(shape.columns * shape.colours), shape.rows, shape.columns,
                 shape.colours}, weights, threads);
    return pixels;
}

void test_definition() {
    std::mt19937 random(5);
    for (int round = 0; round < 300; ++round) {
        const Shape shape{1 + random() % 70, 1 + random() % (round % 20 == 0 ? 1100 : 40), random() % 2 ? 3u : 1u};
        Bytes pixels(shape.rows * shape.columns * shape.colours);
        const unsigned steep = 1 + random() % 256;
        for (auto& byte : pixels) byte = static_cast<uint8_t>(random() % steep);
        Weights weights(filter_weights(shape.colours));
        const int most = round % 3 == 0 ? 128 : 20;
        for (auto& weight : weights) weight = static_cast<int8_t>(static_cast<int>(random() % (2 * most)) - most);
        const Bytes expected = defined(pixels, shape, weights);
        for (const size_t threads : {1, 2, 5}) CHECK(filtered(pixels, shape, weights, threads) == expected);
    }
}

// The largest sums there are stay exact.
void test_extremes() {
    const Shape shape{33, 40, 3};
    for (const int weight : {-128, 127}) {
        Bytes pixels;
        for (size_t k = 0; k < shape.rows * shape.columns; ++k)
            pixels.insert(pixels.end(), 3, (k / shape.columns + k % shape.columns) % 3 == 0 ? 255 : 0);
        const Weights weights(filter_weights(3), static_cast<int8_t>(weight));
        CHECK(filtered(pixels, shape, weights, 2) == defined(pixels, shape, weights));
    }
}

void test_rows_apart() {
    const Shape shape{20, 7, 3};
    constexpr size_t kStride = 7 * 3 + 5;
    std::mt19937 random(6);
    Bytes wide(shape.rows * kStride), pixels;
    for (auto& byte : wide) byte = static_cast<uint8_t>(random());
    for (size_t row = 0; row < shape.rows; ++row)
        pixels.insert(pixels.end(), wide.begin() + static_cast<ptrdiff_t>(row * kStride),
                      wide.begin() + static_cast<ptrdiff_t>(row * kStride + 21));
    Weights weights(filter_weights(3));
    for (auto& weight : weights) weight = static_cast<int8_t>(random() % 40) - 20;
    const Bytes expected = defined(pixels, shape, weights), before = wide;
    post_filter({wide.data(), kStride, shape.rows, shape.columns, 3}, weights, 2);
    for (size_t k = 0; k < wide.size(); ++k)
        CHECK(wide[k] == (k % kStride < 21 ? expected[k / kStride * 21 + k % kStride] : before[k]));
}

void test_refusals() {
    Bytes pixels(12);
    const Weights weights(filter_weights(3) + 1);
    CHECK_THROWS(post_filter({pixels.data(), 6, 2, 2, 3}, weights, 1), std::invalid_argument);
    CHECK_THROWS(post_filter({pixels.data(), 6, 2, 3, 2}, {weights.data(), 48}, 1), std::invalid_argument);
    post_filter({pixels.data(), 0, 0, 4, 3}, {weights.data(), filter_weights(3)}, 1);
    post_filter({pixels.data(), 0, 4, 0, 3}, {weights.data(), filter_weights(3)}, 1);
}

}  // namespace

int main() {
    test_definition();
    test_extremes();
    test_rows_apart();
    test_refusals();
}
