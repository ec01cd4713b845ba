#include "png_filter.hpp"

#include <algorithm>
#include <cstdlib>

#include "vectorised.hpp"

namespace basic {
namespace {

// Sums of magnitudes, which are at most 128, stay in 16 bits for so many bytes: twice as many at a time.
constexpr size_t kBlock = 256;

uint8_t magnitude(uint8_t difference) { return std::min(difference, static_cast<uint8_t>(-difference)); }

// to[k] = row[k] - predicted(k); the sum of the magnitudes, of a row at most `bytes` long.
template <typename Predicted>
[[gnu::always_inline]] inline uint64_t subtract(const uint8_t* __restrict row, size_t bytes,
                                                uint8_t* __restrict to, const Predicted& predicted) {
    uint64_t sum = 0;
    for (size_t first = 0; first < bytes; first += kBlock) {
        const size_t last = std::min(bytes, first + kBlock);
        uint16_t part = 0;
        for (size_t k = first; k < last; ++k) {
            const auto difference = static_cast<uint8_t>(row[k] - predicted(k));
            to[k] = difference;
            part = static_cast<uint16_t>(part + magnitude(difference));
        }
        sum += part;
    }
    return sum;
}

BASIC_VECTORISED
uint64_t subtract_nothing(const uint8_t* __restrict row, size_t bytes, uint8_t* __restrict to) {
    return subtract(row, bytes, to, [](size_t) { return uint8_t{0}; });
}

BASIC_VECTORISED
uint64_t subtract_one(const uint8_t* __restrict row, const uint8_t* __restrict near, size_t bytes,
                      uint8_t* __restrict to) {
    return subtract(row, bytes, to, [near](size_t k) { return near[k]; });
}

BASIC_VECTORISED
uint64_t subtract_average(const uint8_t* __restrict row, const uint8_t* __restrict left,
                          const uint8_t* __restrict above, size_t bytes, uint8_t* __restrict to) {
    return subtract(row, bytes, to, [=](size_t k) { return static_cast<uint8_t>((left[k] + above[k]) / 2); });
}

// Of the neighbours left, above and in the corner, the one closest to left + above - corner, the first of
// equals.
BASIC_VECTORISED
uint64_t subtract_paeth(const uint8_t* __restrict row, const uint8_t* __restrict left,
                        const uint8_t* __restrict above, const uint8_t* __restrict corner, size_t bytes,
                        uint8_t* __restrict to) {
    return subtract(row, bytes, to, [=](size_t k) {
        const auto from_left = static_cast<int16_t>(above[k] - corner[k]);
        const auto from_above = static_cast<int16_t>(left[k] - corner[k]);
        const auto from_corner = static_cast<int16_t>(from_left + from_above);
        const auto a = static_cast<int16_t>(std::abs(from_left)),
                   b = static_cast<int16_t>(std::abs(from_above)),
                   c = static_cast<int16_t>(std::abs(from_corner));
        const uint8_t other = b <= c ? above[k] : corner[k];
        return a <= b && a <= c ? left[k] : other;
    });
}

}  // namespace

PngRowFilter::PngRowFilter(size_t bytes, size_t step)
    : bytes_(bytes), step_(step), row_(step + bytes), above_(step + bytes), filtered_(kFilters * bytes) {}

void PngRowFilter::start_after(const uint8_t* row) { std::copy_n(row, bytes_, above_.data() + step_); }

void PngRowFilter::append(const uint8_t* row, std::vector<uint8_t>& to) {
    std::copy_n(row, bytes_, row_.data() + step_);
    const uint8_t *here = row_.data() + step_, *left = row_.data(), *above = above_.data() + step_,
                  *corner = above_.data();
    uint8_t* none = filtered_.data();
    uint8_t *sub = none + bytes_, *up = sub + bytes_, *average = up + bytes_, *paeth = average + bytes_;
    const uint64_t sums[kFilters] = {
        subtract_nothing(here, bytes_, none),
        subtract_one(here, left, bytes_, sub),
        subtract_one(here, above, bytes_, up),
        subtract_average(here, left, above, bytes_, average),
        subtract_paeth(here, left, above, corner, bytes_, paeth),
    };
    const auto best = static_cast<size_t>(std::min_element(sums, sums + kFilters) - sums);
    to.push_back(static_cast<uint8_t>(best));
    const uint8_t* filtered = filtered_.data() + best * bytes_;
    to.insert(to.end(), filtered, filtered + bytes_);
    row_.swap(above_);
}

}  // namespace basic
