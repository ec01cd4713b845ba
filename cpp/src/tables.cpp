#include <algorithm>
#include <cstdlib>
#include <limits>
#include <string>

#include "basic/coder.hpp"
#include "huge_pages.hpp"

namespace basic {
namespace {

[[noreturn]] void refuse(size_t row, const std::string& what) {
    throw std::invalid_argument("tables: row " + std::to_string(row) + ": " + what);
}

// First and last symbol of the codes before the escape; 64 bits, so that hostile offsets cannot overflow.
struct Range {
    int64_t first, last;
};

Range symbol_range(int32_t offset, uint32_t size, int shift) {
    const int64_t codes = int64_t{size} - 1;
    return {int64_t{offset} * (int64_t{1} << shift), (int64_t{offset} + codes) * (int64_t{1} << shift) - 1};
}

template <typename T>
bool holds(Range range) {
    return range.first >= std::numeric_limits<T>::min() && range.last <= std::numeric_limits<T>::max();
}

EncodeEntry make_entry(uint32_t freq, uint32_t start) {
    // Exact: with e = reciprocal * freq - 2^44 < freq, x * e < freq^2 * 2^20 <= 2^44 for every x < freq <<
    // 20, and x * reciprocal stays below 2^64 because freq * (freq - 1) < 2^24.
    return {((uint64_t{1} << 44) + freq - 1) / freq, freq << 20, static_cast<uint16_t>(kProbTotal - freq),
            static_cast<uint16_t>(start)};
}

PackedEntry pack_entry(uint32_t freq, uint32_t start) {
    const uint64_t reciprocal = (uint64_t{1} << 32) / freq;
    return {static_cast<uint32_t>(std::min<uint64_t>(reciprocal, std::numeric_limits<uint32_t>::max())),
            static_cast<uint16_t>(freq), static_cast<uint16_t>(start)};
}

}  // namespace

Tables::Tables(std::span<const uint16_t> freqs, std::span<const uint16_t> sizes,
               std::span<const int32_t> offsets, std::span<const uint8_t> shifts) {
    const size_t rows = sizes.size();
    if (rows == 0 || rows > kMaxRows) throw std::invalid_argument("tables: need 1 to 256 rows");
    if (offsets.size() != rows || shifts.size() != rows)
        throw std::invalid_argument("tables: sizes, offsets and shifts differ in length");
    size_t total = 0;
    for (size_t r = 0; r < rows; ++r) {
        if (sizes[r] < 2 || sizes[r] > kMaxCodes) refuse(r, "size must be 2 to 256 codes");
        total += sizes[r];
    }
    if (total != freqs.size()) throw std::invalid_argument("tables: sizes do not sum to the length of freqs");

    entries_.reserve(total);
    packed_.reserve(total);
    for (size_t r = 0; r < rows; ++r) {
        if (shifts[r] > kMaxShift) refuse(r, "shift must be at most 15");
        const Range range = symbol_range(offsets[r], sizes[r], shifts[r]);
        if (!holds<int32_t>(range)) refuse(r, "symbols do not fit int32");
        const uint32_t escape = sizes[r] - 1u;
        ends_.push_back({static_cast<uint8_t>(escape), shifts[r]});
        const bool has_raw_bits = shifts[r] > 0;
        const RowMap map{offsets[r], static_cast<uint16_t>(has_raw_bits ? 0 : escape),
                         static_cast<uint16_t>(entries_.size())};
        rows_.maps[r] = map;
        rows_.narrow &= std::abs(int64_t{map.offset}) <= RowTables::kNarrow;
        rows_.offset[r] = static_cast<int16_t>(map.offset);
        rows_.special[r] = map.special;
        rows_.base[r] = map.base;
        rows_.special_code[r] = has_raw_bits ? 0 : kDecodedEscape;
        fits_int16_ &= holds<int16_t>(range);
        uint32_t start = 0;
        for (const uint16_t freq : freqs.subspan(entries_.size(), sizes[r])) {
            if (freq == 0) refuse(r, "frequencies must be at least 1");
            if (freq > kProbTotal - start) refuse(r, "frequencies must sum to 4096");
            entries_.push_back(make_entry(freq, start));
            packed_.push_back(pack_entry(freq, start));
            start += freq;
        }
        if (start != kProbTotal) refuse(r, "frequencies must sum to 4096");
    }
}

void Tables::build_slots() const {
    slots_.reset(static_cast<uint32_t*>(allocate_huge((rows() << kProbBits) * sizeof(uint32_t))));
    uint32_t* slot = slots_.get();
    for (size_t r = 0; r < rows(); ++r)
        for (uint32_t code = 0; code <= ends_[r].escape; ++code) {
            const uint32_t freq = packed_[rows_.maps[r].base + code].freq;
            const uint32_t stored = code == ends_[r].escape ? kDecodedEscape : code;
            for (uint32_t rank = 0; rank < freq; ++rank) *slot++ = freq << 20 | rank << 8 | stored;
        }
}

void Tables::Free::operator()(void* memory) const { free_huge(memory); }

}  // namespace basic
