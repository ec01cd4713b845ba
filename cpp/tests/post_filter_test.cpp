// Tests of post_filter against its definition; built with the sanitizers in CI.
#include "basic/post_filter.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>
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

// As the header says it, those of one sample in the order of a colour's weights.
std::vector<int> features(const Bytes& pixels, const Shape& shape, int row, int column) {
    constexpr std::array<std::array<int, 2>, 6> kPairs{{{0, 1}, {0, 2}, {1, -1}, {1, 0}, {1, 1}, {2, 0}}};
    const int rows = static_cast<int>(shape.rows), columns = static_cast<int>(shape.columns);
    const auto at = [&](int y, int x, size_t colour) -> int {
        y = std::clamp(y, 0, rows - 1), x = std::clamp(x, 0, columns - 1);
        return pixels[(static_cast<size_t>(y * columns + x)) * shape.colours + colour];
    };
    std::vector<int> result;
    for (const auto& [down, right] : kPairs)
        for (size_t c = 0; c < shape.colours; ++c) {
            const int sample = at(row, column, c);
            const int a = at(row + down, column + right, c) - sample, b = at(row - down, column - right, c) - sample;
            result.push_back(std::clamp(a, -8, 8) + std::clamp(b, -8, 8));
            result.push_back(a + b);
        }
    return result;
}

Bytes defined(const Bytes& pixels, const Shape& shape, const Weights& weights) {
    Bytes result;
    for (size_t row = 0; row < shape.rows; ++row)
        for (size_t column = 0; column < shape.columns; ++column) {
            const std::vector<int> found = features(pixels, shape, static_cast<int>(row), static_cast<int>(column));
            for (size_t out = 0; out < shape.colours; ++out) {
                const int8_t* weight = weights.data() + out * found.size();
                const int sum = std::inner_product(found.begin(), found.end(), weight, 64);
                const int sample = pixels[(row * shape.columns + column) * shape.colours + out];
                result.push_back(static_cast<uint8_t>(std::clamp(sample + (sum >> 7), 0, 255)));
            }
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

// As the header says it, sample by sample.
basic::FilterMoments defined_moments(const Bytes& decoded, const Bytes& original, const Shape& shape, size_t first,
                                     size_t last) {
    const size_t count = filter_weights(shape.colours) / shape.colours;
    basic::FilterMoments result{std::vector<int64_t>(count * count), std::vector<int64_t>(count * shape.colours)};
    for (size_t row = first; row < last; ++row)
        for (size_t column = 0; column < shape.columns; ++column) {
            const std::vector<int> found = features(decoded, shape, static_cast<int>(row), static_cast<int>(column));
            for (size_t i = 0; i < count; ++i) {
                for (size_t j = 0; j < count; ++j) result.features[i * count + j] += found[i] * found[j];
                for (size_t c = 0; c < shape.colours; ++c) {
                    const size_t at = (row * shape.columns + column) * shape.colours + c;
                    result.errors[i * shape.colours + c] += found[i] * (original[at] - decoded[at]);
                }
            }
        }
    return result;
}

void test_moments() {
    std::mt19937 random(8);
    for (int round = 0; round < 60; ++round) {
        const Shape shape{1 + random() % 50, 1 + random() % (round % 10 == 0 ? 600 : 40), random() % 2 ? 3u : 1u};
        Bytes decoded(shape.rows * shape.columns * shape.colours), original(decoded.size());
        // The largest products there are, or some of any size.
        for (Bytes* pixels : {&decoded, &original})
            for (auto& byte : *pixels) byte = static_cast<uint8_t>(round % 3 == 0 ? random() % 2 * 255 : random());
        const size_t last = random() % (shape.rows + 1), first = random() % (last + 1);
        const auto stride = static_cast<ptrdiff_t>(shape.columns * shape.colours);
        const basic::FilterMoments expected = defined_moments(decoded, original, shape, first, last);
        for (const size_t threads : {1, 3}) {
            const auto found = basic::filter_moments({decoded.data(), stride, shape.rows, shape.columns, shape.colours},
                                                     {original.data(), stride, shape.rows, shape.columns, shape.colours},
                                                     first, last, threads);
            CHECK(found.features == expected.features);
            CHECK(found.errors == expected.errors);
        }
    }
}

// Errors that some weights make up for whole give these weights; the less errors are worth, the fewer stay.
void test_fit() {
    std::mt19937 random(9);
    for (const size_t colours : {1, 3}) {
        const size_t count = filter_weights(colours) / colours;
        std::vector<double> signals(400 * count), features(count * count), errors(count * colours);
        for (auto& value : signals) value = static_cast<double>(random() % 101) - 50;
        Weights weights(filter_weights(colours));
        for (auto& weight : weights) weight = static_cast<int8_t>(static_cast<int>(random() % 256) - 128);
        for (size_t sample = 0; sample < 400; ++sample)
            for (size_t i = 0; i < count; ++i) {
                const double* signal = &signals[sample * count];
                for (size_t j = 0; j < count; ++j) features[i * count + j] += signal[i] * signal[j];
                for (size_t c = 0; c < colours; ++c)
                    errors[i * colours + c] +=
                        signal[i] * std::inner_product(signal, signal + count, &weights[c * count], 0.0) / 128;
            }
        CHECK(basic::fit_filter(features, errors, colours, std::numeric_limits<double>::infinity()) == weights);
        CHECK(basic::fit_filter(features, errors, colours, 0) == Weights(weights.size()));
        ptrdiff_t before = std::ssize(weights);
        for (const double worth : {1e-2, 1e-4, 1e-6}) {
            const Weights found = basic::fit_filter(features, errors, colours, worth);
            const ptrdiff_t stay = std::ssize(found) - std::count(found.begin(), found.end(), 0);
            CHECK(stay <= before);
            before = stay;
        }
        CHECK(before < std::ssize(weights));
        CHECK_THROWS(basic::fit_filter(features, errors, 2, 0), std::invalid_argument);
        CHECK_THROWS(basic::fit_filter({features.data(), count}, errors, colours, 0), std::invalid_argument);
        CHECK_THROWS(basic::fit_filter(features, {errors.data(), 1}, colours, 0), std::invalid_argument);
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
    const basic::ConstPicture whole{pixels.data(), 6, 2, 2, 3}, other{pixels.data(), 3, 4, 1, 3};
    CHECK_THROWS(basic::filter_moments(whole, other, 0, 2, 1), std::invalid_argument);
    CHECK_THROWS(basic::filter_moments(whole, whole, 0, 3, 1), std::invalid_argument);
    CHECK_THROWS(basic::filter_moments(whole, whole, 2, 1, 1), std::invalid_argument);
    CHECK_THROWS(basic::filter_moments(whole, whole, 0, 2, 0), std::invalid_argument);
    CHECK_THROWS(post_filter({pixels.data(), 6, 2, 2, 3}, {weights.data(), filter_weights(3)}, 0), std::invalid_argument);
    CHECK(basic::filter_moments(whole, whole, 1, 1, 1).errors == std::vector<int64_t>(36 * 3));
    post_filter({pixels.data(), 0, 0, 4, 3}, {weights.data(), filter_weights(3)}, 1);
    post_filter({pixels.data(), 0, 4, 0, 3}, {weights.data(), filter_weights(3)}, 1);
}

}  // namespace

int main() {
    test_definition();
    test_extremes();
    test_rows_apart();
    test_moments();
    test_fit();
    test_refusals();
}
