// Tests of the element-wise passes; built with the address and undefined-behaviour sanitizers in CI.
#include "basic/passes.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "basic/checksum.hpp"
#include "basic/coder.hpp"
#include "basic/pixels.hpp"
#include "check.hpp"

namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

struct Arrays {
    std::vector<float> y, mean, scale;
    std::vector<uint8_t> lut = {5, 6, 7, 9};
    std::vector<int32_t> symbols;
    std::vector<uint8_t> indexes;
    std::vector<float> yhat;

    explicit Arrays(size_t size)
        : y(size), mean(size), scale(size), symbols(size), indexes(size), yhat(size) {}
    void quantise(int mean_bits) { basic::quantise(y, mean, scale, lut, mean_bits, symbols, indexes, yhat); }
};

void test_against_definition() {
    std::mt19937 random(1);
    std::uniform_real_distribution<double> unit(-1, 1);
    for (const int bits : {0, 1, 6, 10, 16})
        for (const size_t size : {0, 1, 3, 511, 512, 513, 4000}) {
            Arrays a(size);
            for (size_t i = 0; i < size; ++i) {
                a.y[i] = static_cast<float>(unit(random) * std::pow(10.0, 6 * unit(random)));
                a.mean[i] = static_cast<float>(std::round(unit(random) * ((1 << 23) - 1)));
                a.scale[i] = static_cast<float>(static_cast<int>(random() % 9) - 2);
            }
            a.quantise(bits);
            const auto up = static_cast<float>(1 << bits);
            const double limit = basic::symbol_limit(bits);
            for (size_t i = 0; i < size; ++i) {
                const float residual = (a.y[i] * up - a.mean[i]) / up;
                const double symbol =
                    std::clamp(std::floor(static_cast<double>(residual + 0.5f)), -limit, limit);
                CHECK(a.symbols[i] == symbol);
                CHECK(a.yhat[i] == symbol * up + static_cast<double>(a.mean[i]));  // exact
                const int position = std::clamp(static_cast<int>(a.scale[i]), 0, 3);
                CHECK(a.indexes[i] == a.lut[static_cast<size_t>(position)]);
            }
            std::vector<uint8_t> indexes(size);
            basic::indexes_from_scale(a.scale, a.lut, indexes);
            CHECK(indexes == a.indexes);
            std::vector<float> yhat(size);
            basic::dequantise(a.symbols, a.mean, bits, yhat);
            CHECK(yhat == a.yhat);
        }
}

void test_refusals() {
    const auto refuses = [](auto change) {
        for (const size_t place : {size_t{0}, size_t{600}, size_t{698}}) {
            Arrays a(699);
            change(a, place);
            CHECK_THROWS(a.quantise(6), std::invalid_argument);
        }
    };
    for (const float bad : {kNan, kInf, -kInf}) {
        refuses([&](Arrays& a, size_t i) { a.y[i] = bad; });
        refuses([&](Arrays& a, size_t i) { a.mean[i] = bad; });
    }
    for (const float bad : {0.5f, -1.25f, 8388608.0f, -8388608.0f, 1e30f})
        refuses([&](Arrays& a, size_t i) { a.mean[i] = bad; });
    for (const float bad : {kNan, 0.5f, 2.999f}) refuses([&](Arrays& a, size_t i) { a.scale[i] = bad; });
    refuses([](Arrays& a, size_t) { a.lut.clear(); });
    refuses([](Arrays& a, size_t) { a.mean.pop_back(); });

    Arrays a(4);
    CHECK_THROWS(a.quantise(-1), std::invalid_argument);
    CHECK_THROWS(a.quantise(17), std::invalid_argument);
    a.y = {3e38f, -3e38f, 0, 0};
    a.scale = {kInf, -kInf, 1e30f, -1e30f};
    a.quantise(6);
    CHECK(a.symbols[0] == 1 << 17 && a.symbols[1] == -(1 << 17));
    CHECK(a.indexes[0] == 9 && a.indexes[1] == 5 && a.indexes[2] == 9 && a.indexes[3] == 5);

    for (const int32_t symbol : {(1 << 17) + 1, -(1 << 17) - 1, std::numeric_limits<int32_t>::min()}) {
        a.symbols[2] = symbol;
        CHECK_THROWS(basic::dequantise(a.symbols, a.mean, 6, a.yhat), basic::StreamError);
    }
    a.symbols[2] = 0;
    a.mean[3] = kNan;
    CHECK_THROWS(basic::dequantise(a.symbols, a.mean, 6, a.yhat), std::invalid_argument);
}

// Bit by bit, as the polynomial is defined.
uint32_t crc32_by_bits(std::span<const uint8_t> bytes, uint32_t crc) {
    crc = ~crc;
    for (const uint8_t byte : bytes) {
        crc ^= byte;
        for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320 : 0);
    }
    return ~crc;
}

void test_checksum() {
    const std::string digits = "123456789";
    const std::vector<uint8_t> text(digits.begin(), digits.end());
    CHECK(basic::crc32(text) == 0xCBF43926);  // the check value of every catalogue of CRCs
    std::mt19937 random(3);
    std::vector<uint8_t> bytes(700);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
    for (const size_t start : {0, 1, 7})
        for (size_t size = 0; size + start <= bytes.size(); size += size < 300 ? 1 : 37) {
            const std::span<const uint8_t> part(bytes.data() + start, size);
            const auto before = static_cast<uint32_t>(random());
            CHECK(basic::crc32(part, before) == crc32_by_bits(part, before));
            CHECK(basic::crc32_by_tables(part, before) == crc32_by_bits(part, before));
        }
    for (const size_t size : {0, 1, 15, 16, 17, 1023, 1024, 1025, 3000}) {
        std::vector<float> values(size);
        std::vector<uint8_t> little;
        for (float& value : values) {
            value = static_cast<float>(static_cast<int32_t>(random()) >> 8);
            for (int k = 0; k < 4; ++k)
                little.push_back(static_cast<uint8_t>(static_cast<uint32_t>(static_cast<int32_t>(value)) >> 8 * k));
        }
        CHECK(basic::crc32_of_integers(values, 5) == crc32_by_bits(little, 5));
    }
    const std::vector<float> odd = {kNan, kInf, -kInf, 1e20f};
    CHECK(basic::crc32_of_integers(odd) == basic::crc32_of_integers(std::vector<float>{
                                               -2147483648.0f, 2147483520.0f, -2147483648.0f, 2147483520.0f}));
}

// Rows of patches, the bytes of their pixels and their errors, in buffers that end where they must.
void test_patches() {
    std::mt19937 random(4);
    const auto number = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
    for (size_t size = 1; size <= basic::kMaxPatch; ++size)
        for (const size_t columns : {1, 2, 5}) {
            const size_t across = 3 * size * columns, values = 3 * size * size, stride = values + 3;
            std::vector<uint8_t> pixels(size * across), back(pixels.size());
            for (uint8_t& pixel : pixels) pixel = static_cast<uint8_t>(number(0, 255));
            const auto row_stride = static_cast<ptrdiff_t>(across);
            std::vector<int16_t> taken(columns * values);
            basic::take_patches(pixels.data(), row_stride, columns, size, taken.data());
            std::vector<int16_t> patches((columns - 1) * stride + values), errors(patches.size());
            for (int16_t& value : patches) value = static_cast<int16_t>(number(-9000, 17000));
            basic::put_patches(patches.data(), stride, columns, size, 13, back.data(), row_stride);
            const basic::Inside inside{size / 2, size, 1, size * columns};
            const uint64_t sum = basic::take_errors(patches.data(), stride, columns, size, 13, pixels.data(), row_stride,
                                                    inside, errors.data(), stride);
            uint64_t expected = 0;
            for (size_t row = 0; row < size; ++row)
                for (size_t column = 0; column < size * columns; ++column)
                    for (size_t colour = 0; colour < 3; ++colour) {
                        const size_t patch = column / size, k = column % size, byte = (row * size * columns + column) * 3 + colour;
                        const size_t place = patch * stride + (colour * size + row) * size + k;
                        CHECK(taken[patch * values + (row * size + k) * 3 + colour] == 2 * pixels[byte] - 255);
                        CHECK(back[byte] == std::clamp((255 * patches[place] + 4096) >> 13, 0, 255));
                        const int shown = std::clamp<int>(patches[place], 0, 8192);
                        const bool counts = row >= size / 2 && column >= 1;
                        const int error = counts ? (255 * shown - 8192 * pixels[byte] + 64) >> 7 : 0;
                        CHECK(errors[place] == error);
                        expected += static_cast<uint64_t>(int64_t{error} * error);
                    }
            CHECK(sum == expected);
        }
}

}  // namespace

int main() {
    test_against_definition();
    test_refusals();
    test_patches();
    test_checksum();
    std::puts("passes: all tests passed");
}
