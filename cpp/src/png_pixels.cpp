#include "basic/png_pixels.hpp"

#include <algorithm>
#include <array>
#include <span>
#include <stdexcept>

#include "basic/workers.hpp"
#include "deflate.hpp"
#include "png_filter.hpp"
#include "vectorised.hpp"

namespace basic {
namespace {

constexpr size_t kStripe = 1 << 16;  // samples of a block: large beside its code, of some 80 bytes, and cached
constexpr size_t kStripes = 16;  // of a part

constexpr uint32_t kModulus = 65521;  // of Adler-32 (RFC 1950, 8.2)
constexpr size_t kSummed = 4096;      // bytes whose weighted sum fits 32 bits

struct Sums {
    uint32_t plain, weighted;  // each byte times the number of those from it to the end
};

BASIC_VECTORISED
Sums sums_of(const uint8_t* bytes, size_t count) {
    uint32_t plain = 0, weighted = 0;
    const auto size = static_cast<uint32_t>(count);
    for (uint32_t k = 0; k < size; ++k) {
        plain += bytes[k];
        weighted += (size - k) * bytes[k];
    }
    return {plain, weighted};
}

// That of what has the checksum `before`, followed by the bytes.
uint32_t adler32(uint32_t before, std::span<const uint8_t> bytes) {
    uint64_t a = before & 0xFFFF, b = before >> 16;
    for (; !bytes.empty(); bytes = bytes.subspan(std::min(bytes.size(), kSummed))) {
        const size_t count = std::min(bytes.size(), kSummed);
        const Sums sums = sums_of(bytes.data(), count);
        b = (b + a * count + sums.weighted) % kModulus;
        a = (a + sums.plain) % kModulus;
    }
    return static_cast<uint32_t>(b << 16 | a);
}

// The same of two parts, the second of so many bytes, from the checksum of each alone.
uint32_t joined(uint32_t first, uint32_t second, size_t bytes) {
    const uint64_t before = (first & 0xFFFF) + kModulus - 1;
    const uint64_t a = (before + (second & 0xFFFF)) % kModulus;
    const uint64_t b = ((first >> 16) + (second >> 16) + before % kModulus * (bytes % kModulus)) % kModulus;
    return static_cast<uint32_t>(b << 16 | a);
}

struct Stripe {
    std::vector<uint8_t> block;
    uint32_t checksum;
    size_t bytes;
};

Stripe make_stripe(const PngSamples& samples, size_t first, size_t last) {
    const size_t size = samples.columns * samples.channels;
    const auto row = [&](size_t y) { return samples.data + static_cast<ptrdiff_t>(y) * samples.row_stride; };
    PngRowFilter filter(size, samples.channels);
    if (first > 0) filter.start_after(row(first - 1));
    std::vector<uint8_t> filtered;
    filtered.reserve((last - first) * (size + 1));
    for (size_t y = first; y < last; ++y) filter.append(row(y), filtered);
    return {deflate_runs(filtered, last == samples.rows), adler32(1, filtered), filtered.size()};
}

}  // namespace

PngPixels::PngPixels(const PngSamples& samples, size_t threads) : samples_(samples), threads_(threads) {
    if (samples.channels < 1 || samples.channels > 4)
        throw std::invalid_argument("samples have 1 to 4 channels");
    if (samples.rows == 0 || samples.columns == 0) throw std::invalid_argument("there are no samples");
    Workers::of(threads);
    stripe_rows_ = std::max<size_t>(1, kStripe / (samples.columns * samples.channels));
}

std::vector<uint8_t> PngPixels::next() {
    const size_t first = row_, rows = std::min(samples_.rows - first, kStripes * stripe_rows_);
    std::vector<Stripe> stripes((rows + stripe_rows_ - 1) / stripe_rows_);
    Workers::of(threads_).each(stripes.size(), [&](size_t k) {
        const size_t top = first + k * stripe_rows_;
        stripes[k] = make_stripe(samples_, top, std::min(top + stripe_rows_, first + rows));
    });
    std::vector<uint8_t> part;
    if (first == 0) part = {0x78, 0x01};  // a window of 32 KB, compressed fast (RFC 1950, 2.2)
    for (const Stripe& stripe : stripes) {
        part.insert(part.end(), stripe.block.begin(), stripe.block.end());
        checksum_ = joined(checksum_, stripe.checksum, stripe.bytes);
    }
    row_ += rows;
    if (done())
        for (const int shift : {24, 16, 8, 0}) part.push_back(static_cast<uint8_t>(checksum_ >> shift));
    return part;
}

}  // namespace basic
