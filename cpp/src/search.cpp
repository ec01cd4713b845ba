#include "basic/search.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <stdexcept>
#include <vector>

#include "basic/workers.hpp"

namespace basic {
namespace {

constexpr size_t kPiece = 1 << 14;

// Calls work(first, last) for pieces of `count` elements, of which none has an index that is no row.
template <typename Work>
void each_piece(std::span<const uint8_t> indexes, size_t rows, size_t threads, const Work& work) {
    std::atomic<bool> wrong{false};
    Workers::of(threads).each((indexes.size() + kPiece - 1) / kPiece, [&](size_t piece) {
        const auto part = indexes.subspan(piece * kPiece, std::min(kPiece, indexes.size() - piece * kPiece));
        if (*std::max_element(part.begin(), part.end()) >= rows)
            wrong = true;
        else
            work(piece * kPiece, piece * kPiece + part.size());
    });
    if (wrong) throw std::invalid_argument("an index is no row of the table");
}

}  // namespace

double symbol_bits(std::span<const int32_t> symbols, std::span<const uint8_t> indexes, const SymbolBits& table,
                   size_t threads) {
    std::vector<double> sums((indexes.size() + kPiece - 1) / kPiece);
    each_piece(indexes, table.rows, threads, [&](size_t first, size_t last) {
        double sum = 0;
        for (size_t k = first; k < last; ++k) sum += table.of(indexes[k], symbols[k]);
        sums[first / kPiece] = sum;
    });
    double total = 0;
    for (const double sum : sums) total += sum;
    return total;
}

void search_moves(const SearchElements& elements, const SymbolBits& table, const SearchRules& rules,
                  std::span<float> curvature, std::span<int8_t> moves, std::span<int8_t> steps, size_t threads) {
    each_piece(elements.indexes, table.rows, threads, [&](size_t first, size_t last) {
        for (size_t k = first; k < last; ++k) {
            const int32_t symbol = elements.symbols[k];
            const float slope = elements.slope[k] * rules.weight, half = rules.caution * curvature[k];
            steps[k] = 0;
            // Zeros, the most by far, can only cost more bits: they move where the error falls enough, if at all.
            if (symbol == 0 && !(std::abs(slope) > half)) continue;
            const size_t row = elements.indexes[k];
            const float before = table.of(row, symbol);
            const float down = table.of(row, symbol - 1) - before - slope + half;
            const float up = table.of(row, symbol + 1) - before + slope + half;
            if (!(std::min(down, up) < 0)) continue;
            const int8_t wanted = down < up ? -1 : 1;
            if (wanted * moves[k] < 0) curvature[k] *= rules.stiffer;
            if (random_of(elements.keys[k], rules.salt) < rules.share) moves[k] = steps[k] = wanted;
        }
    });
}

}  // namespace basic
