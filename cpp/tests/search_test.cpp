// Tests of what a search does to elements: against the definition, for any number of threads, in sanitizer builds too.
#include "basic/search.hpp"

#include <algorithm>
#include <cmath>
#include <random>
#include <stdexcept>
#include <vector>

#include "check.hpp"

namespace {

using basic::SearchElements;
using basic::SearchRules;
using basic::SymbolBits;

constexpr size_t kRows = 5;
constexpr int32_t kLargest = 6;

struct Case {
    std::vector<int32_t> symbols;
    std::vector<uint8_t> indexes;
    std::vector<float> slope, curvature, bits;
    std::vector<uint32_t> keys;
    std::vector<int8_t> moves;

    explicit Case(size_t count, unsigned seed = 1) {
        std::mt19937 random(seed);
        const auto number = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
        for (size_t k = 0; k < count; ++k) {
            symbols.push_back(number(0, 2) == 0 ? number(-9, 9) : 0);
            indexes.push_back(static_cast<uint8_t>(number(0, kRows - 1)));
            slope.push_back(static_cast<float>(number(-4000, 4000)) / 100);
            curvature.push_back(static_cast<float>(number(1, 1000)) / 100);
            keys.push_back(static_cast<uint32_t>(random()));
            moves.push_back(static_cast<int8_t>(number(-1, 1)));
        }
        for (size_t k = 0; k < kRows * (2 * kLargest + 1); ++k)
            bits.push_back(static_cast<float>(number(0, 20 * 4096)) / 4096);
    }

    SymbolBits table() const { return {bits.data(), kRows, kLargest}; }
    SearchElements elements() const { return {symbols, indexes, slope, keys}; }
};

double bits_of(const Case& given, size_t k, int32_t symbol) {
    const int32_t bounded = std::clamp(symbol, -kLargest, kLargest);
    return given.bits[given.indexes[k] * size_t{2 * kLargest + 1} + static_cast<size_t>(kLargest + bounded)];
}

void test_bits_are_those_of_all_symbols() {
    for (const size_t count : {size_t{0}, size_t{1}, size_t{40000}}) {
        const Case given(count);
        double expected = 0;
        for (size_t k = 0; k < count; ++k) expected += bits_of(given, k, given.symbols[k]);
        for (const size_t threads : {1, 3})
            CHECK(basic::symbol_bits(given.symbols, given.indexes, given.table(), threads) == expected);
    }
}

// By doubles, which leave out elements that float32 might judge otherwise.
void test_elements_move_where_that_pays() {
    const SearchRules rules{0.5f, 0.525f, 1.5f, 0.85f, 7};
    const Case given(40000);
    std::vector<std::vector<int8_t>> results;
    for (const size_t threads : {1, 4}) {
        Case now = given;
        std::vector<int8_t> steps(now.symbols.size(), 9);
        basic::search_moves(now.elements(), now.table(), rules, now.curvature, now.moves, steps, threads);
        results.push_back(steps);
        size_t moved = 0, kept = 0, back = 0;
        for (size_t k = 0; k < steps.size(); ++k) {
            const double slope = double{given.slope[k]} * 0.5, half = double{given.curvature[k]} * double{0.525f};
            const double before = bits_of(given, k, given.symbols[k]);
            const double down = bits_of(given, k, given.symbols[k] - 1) - before - slope + half;
            const double up = bits_of(given, k, given.symbols[k] + 1) - before + slope + half;
            const bool left_alone = given.symbols[k] == 0 && std::abs(slope) <= half;
            const double best = std::min(down, up), close = 1e-3;
            if (std::abs(best) < close || std::abs(down - up) < close || std::abs(std::abs(slope) - half) < close) continue;
            const int wanted = left_alone || best >= 0 ? 0 : down < up ? -1 : 1;
            const bool chosen = basic::random_of(given.keys[k], rules.salt) < rules.share;
            CHECK(steps[k] == (chosen ? wanted : 0));
            CHECK(now.moves[k] == (chosen && wanted != 0 ? wanted : given.moves[k]));
            const bool stiffer = wanted * given.moves[k] < 0;
            CHECK(now.curvature[k] == (stiffer ? given.curvature[k] * 1.5f : given.curvature[k]));
            moved += steps[k] != 0, kept += wanted != 0 && !chosen, back += stiffer;
        }
        CHECK(moved > 1000 && kept > 100 && back > 100);
    }
    CHECK(results[0] == results[1]);
}

void test_random_numbers_are_known() {
    CHECK(basic::random_of(0, 0) == 0.019421697f && basic::random_of(1, 0) != basic::random_of(0, 1));
    double sum = 0;
    for (uint32_t key = 0; key < 10000; ++key) {
        const float number = basic::random_of(key, 5);
        CHECK(0 <= number && number < 1);
        sum += number;
    }
    CHECK(std::abs(sum / 10000 - 0.5) < 0.02);
}

void test_rows_that_are_not_there_are_refused() {
    Case given(20000);
    given.indexes[19000] = kRows;
    CHECK_THROWS(basic::symbol_bits(given.symbols, given.indexes, given.table(), 2), std::invalid_argument);
    std::vector<int8_t> steps(given.symbols.size());
    CHECK_THROWS(basic::search_moves(given.elements(), given.table(), {1, 1, 1, 1, 0}, given.curvature, given.moves, steps, 2),
                 std::invalid_argument);
}

}  // namespace

int main() {
    test_bits_are_those_of_all_symbols();
    test_elements_move_where_that_pays();
    test_random_numbers_are_known();
    test_rows_that_are_not_there_are_refused();
}
