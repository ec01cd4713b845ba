// AMX: sums of 16 positions by 16 channels over 64 values in one instruction, of bytes.
//
// Numbers of 16 bits are two bytes, of which the high one has the sign: v = 256 h + l, -128 <= h < 128, 0 <= l < 256. A
// product of two is 65536 hh' + 256 (hl' + lh') + ll': four sums of products of bytes, which are put together at the end,
// modulo 2^32, as are all sums here. Where all values of some positions, or all of some weights, lie between -128 and 127,
// as latents do and many a weight, a byte says it all, and two of the four sums are none.
#include <algorithm>
#include <array>
#include <memory>
#include <new>
#include <numeric>
#include <span>
#include <vector>

#include "dots_avx512.hpp"
#include "dots_list.hpp"

namespace basic {
namespace {

constexpr size_t kRows = 16, kColumns = 16;  // of a tile of sums: positions, channels
constexpr size_t kDepth = 64;                // values of a position, or weights of a channel, that one instruction sums
constexpr size_t kTileBytes = kRows * kDepth;
constexpr size_t kSumsOfTile = kRows * kColumns;

// Bytes of values that all channels' weights pass in turn: with a vector's weights they stay in the first cache.
constexpr size_t kValueBytes = 20 << 10;

size_t depths_of(size_t pairs) { return (2 * pairs + kDepth - 1) / kDepth; }

// How the values of taps fill depths: one tap after the other, or each tap in depths of its own where that takes few more,
// so that taps beside each other can read the same values.
struct Depths {
    explicit Depths(std::span<const size_t> pairs) {
        size_t all = 0;
        for (const size_t some : pairs) all += some, count += depths_of(some);
        alone = 4 * count <= 5 * depths_of(all);
        if (!alone) count = depths_of(all);
    }

    size_t count = 0;
    bool alone;
};

// Of a vector of channels, in bytes: whether each depth's weights are narrow, in whole lines, and for each depth the
// tiles of low and high bytes, whose row k has the weights 4 k to 4 k + 3 of one channel after the other.
size_t bytes_of_flags(size_t depths) { return (depths + 63) / 64 * 64; }
size_t bytes_of_vector(size_t depths) { return bytes_of_flags(depths) + depths * 2 * kTileBytes; }

size_t packed(std::span<const size_t> pairs) { return bytes_of_vector(Depths(pairs).count) / sizeof(int16_t); }

// Of two vectors of four bytes each, what lies at bytes `first` and `first` + 2 of the one's four, then of the other's.
inline BASIC_ALWAYS_INLINE __m512i bytes_of(__m512i a, __m512i b, const std::array<uint8_t, 64>& places) {
    return _mm512_permutex2var_epi8(a, _mm512_loadu_si512(places.data()), b);
}

constexpr std::array<uint8_t, 64> places_of_bytes(uint8_t first) {
    std::array<uint8_t, 64> places{};
    for (size_t k = 0; k < 64; ++k) places[k] = static_cast<uint8_t>(k / 4 * 4 + k % 2 * 2 + k % 4 / 2 * 64 + first);
    return places;
}

// Not 0 in the high bytes of any value that is beyond a byte.
inline BASIC_ALWAYS_INLINE __m512i beyond_bytes(__m512i values) {
    return _mm512_and_si512(_mm512_add_epi16(values, _mm512_set1_epi16(128)), _mm512_set1_epi16(-256));
}

// A tile of low bytes and one of high bytes, and whether the low ones are enough, of so many pairs of a vector, which are
// `apart` from each other.
bool pack_depth(const int16_t* weights, size_t apart, size_t pairs, uint8_t* to) {
    static constexpr auto kLow = places_of_bytes(0), kHigh = places_of_bytes(1);
    __m512i beyond = _mm512_setzero_si512();
    for (size_t pair = 0; pair < kDepth / 2; pair += 2, to += kDepth) {
        const auto row = [&](size_t k) {
            return k < pairs ? Avx512::load_pairs(weights + k * apart) : _mm512_setzero_si512();
        };
        const __m512i a = row(pair), b = row(pair + 1);
        beyond = _mm512_or_si512(beyond, _mm512_or_si512(beyond_bytes(a), beyond_bytes(b)));
        _mm512_storeu_si512(to, bytes_of(a, b, kLow));
        _mm512_storeu_si512(to + kTileBytes, bytes_of(a, b, kHigh));
    }
    return _mm512_test_epi16_mask(beyond, beyond) == 0;
}

void pack(const int16_t* weights, std::span<const size_t> pairs, size_t vectors, int16_t* to) {
    const Depths depths(pairs);
    const size_t all = std::accumulate(pairs.begin(), pairs.end(), size_t{0}), apart = vectors * 2 * kColumns;
    const std::span<const size_t> runs = depths.alone ? pairs : std::span<const size_t>(&all, 1);
    auto* bytes = reinterpret_cast<uint8_t*>(to);
    for (size_t v = 0; v < vectors; ++v, bytes += bytes_of_vector(depths.count)) {
        const int16_t* from = weights + v * 2 * kColumns;
        uint8_t *flag = bytes, *tile = bytes + bytes_of_flags(depths.count);
        for (const size_t run : runs) {
            for (size_t k = 0; k < run; k += kDepth / 2, tile += 2 * kTileBytes)
                *flag++ = pack_depth(from + k * apart, apart, std::min(run - k, kDepth / 2), tile);
            from += run * apart;
        }
    }
}

// The tiles of this thread, all of 16 rows of 64 bytes, for as long as it lives.
class Tiles {
  public:
    Tiles() {
        static constexpr struct {
            uint8_t palette = 1, start_row = 0, unused[14] = {};
            uint16_t bytes_of_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
            uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
        } kShape;
        static_assert(sizeof kShape == 64);
        _tile_loadconfig(&kShape);
    }
    ~Tiles() { _tile_release(); }
    Tiles(const Tiles&) = delete;
    Tiles& operator=(const Tiles&) = delete;
};

// Low and high bytes of a depth of values, in rows that are so many bytes apart.
struct ValueTile {
    const uint8_t *low, *high;
    long row;
};

// Low and high bytes of 64 values, or of the first `count` of them.
template <bool kAll>
inline BASIC_ALWAYS_INLINE void split(const int16_t* from, size_t count, uint8_t* low, uint8_t* high, __m512i& beyond) {
    static constexpr auto kEven = [] {
        std::array<uint8_t, 64> places{};
        for (size_t k = 0; k < 64; ++k) places[k] = static_cast<uint8_t>(2 * k);  // the second vector's count from 64 on
        return places;
    }();
    const __m512i even = _mm512_loadu_si512(kEven.data()), odd = _mm512_or_si512(even, _mm512_set1_epi8(1));
    const __mmask64 kept = kAll ? ~__mmask64{0} : (__mmask64{1} << count) - 1;
    const auto values = [&](size_t at) {
        if constexpr (kAll) return _mm512_loadu_si512(from + at);
        const __mmask64 some = (count > at ? (__mmask64{1} << std::min<size_t>(count - at, 32)) - 1 : 0);
        return _mm512_maskz_loadu_epi16(static_cast<__mmask32>(some), from + at);
    };
    const __m512i a = values(0), b = values(32);
    beyond = _mm512_or_si512(beyond, _mm512_or_si512(beyond_bytes(a), beyond_bytes(b)));
    _mm512_mask_storeu_epi8(low, kept, _mm512_permutex2var_epi8(a, even, b));
    _mm512_mask_storeu_epi8(high, kept, _mm512_permutex2var_epi8(a, odd, b));
}

// Low and high bytes of so many rows of channels, of which row p begins at values + place(p).
template <typename Place>
void split_rows(const int16_t* values, size_t channels, size_t rows, const Place& place, uint8_t* low, uint8_t* high,
                size_t row_bytes, __m512i& beyond) {
    const size_t whole = channels / kDepth * kDepth;
    for (size_t p = 0; p < rows; ++p, low += row_bytes, high += row_bytes) {
        const int16_t* from = values + place(p);
        for (size_t k = 0; k < whole; k += kDepth) split<true>(from + k, kDepth, low + k, high + k, beyond);
        if (whole < channels) split<false>(from + whole, channels - whole, low + whole, high + whole, beyond);
    }
}

// The values that taps read, in tiles, for 16 positions at a time.
class Values {
  public:
    Values(const DotsTap* taps, size_t count, const Depths& depths) : taps_(taps, count), depths_(depths) {
        if (!depths.alone) return;
        for (size_t t = 0; t < count; ++t) {
            const auto apart = lines_.empty() ? 0 : places_after(taps[lines_.back().first], taps[t]);
            if (apart > 0)
                lines_.back().last = t + 1, lines_.back().more = std::max(lines_.back().more, apart);
            else
                lines_.push_back({t, t + 1, 0});
        }
    }

    // Bytes that 16 positions take, at most.
    size_t bytes() const {
        size_t sum = depths_.alone ? 0 : 2 * kTileBytes * depths_.count;
        for (const Line& line : lines_)
            sum += 2 * std::max(kRows * (line.last - line.first), kRows + line.more) * row_bytes(taps_[line.first]);
        return sum;
    }

    // The tiles of all depths, whose bytes begin at `to`; whether the low ones are enough.
    bool read(const uint32_t* at, uint8_t* to, ValueTile* tiles) const {
        __m512i beyond = _mm512_setzero_si512();
        if (depths_.alone) {
            bool in_a_row = true;
            for (size_t p = 1; p < kRows; ++p) in_a_row &= at[p] == at[0] + p;
            for (const Line& line : lines_)
                in_a_row ? read_line(line, at[0], to, tiles, beyond) : read_taps(line, at, to, tiles, beyond);
        } else {
            read_together(at, to, tiles, beyond);
        }
        return _mm512_test_epi16_mask(beyond, beyond) == 0;
    }

  private:
    static constexpr std::ptrdiff_t kFew = 2 * kRows;

    // Taps that read the same channels of places in a row, up to `more` after those of the first.
    struct Line {
        size_t first, last, more;
    };

    static size_t row_bytes(const DotsTap& tap) { return depths_of(tap.pairs) * kDepth; }

    // How many places after those of one tap those of another lie, if there are few between; else 0.
    static size_t places_after(const DotsTap& one, const DotsTap& other) {
        if (other.tensor != one.tensor || other.pairs != one.pairs) return 0;
        const std::ptrdiff_t values = other.input - one.input, stride = static_cast<std::ptrdiff_t>(one.stride);
        return values > 0 && values % stride == 0 && values / stride < kFew ? static_cast<size_t>(values / stride) : 0;
    }

    // Adds the tiles of a tap's depths.
    static void add_tiles(const DotsTap& tap, const uint8_t* low, const uint8_t* high, ValueTile*& tiles) {
        for (size_t k = 0; k < row_bytes(tap); k += kDepth)
            *tiles++ = {low + k, high + k, static_cast<long>(row_bytes(tap))};
    }

    void read_line(const Line& line, uint32_t at, uint8_t*& to, ValueTile*& tiles, __m512i& beyond) const {
        const DotsTap& first = taps_[line.first];
        const size_t bytes = row_bytes(first), rows = kRows + line.more;
        uint8_t *low = to, *high = to + rows * bytes;
        split_rows(first.input, 2 * first.pairs, rows, [&](size_t p) { return (at + p) * first.stride; }, low, high, bytes,
                   beyond);
        for (size_t t = line.first; t < line.last; ++t) {
            const size_t more = t == line.first ? 0 : places_after(first, taps_[t]);
            add_tiles(taps_[t], low + more * bytes, high + more * bytes, tiles);
        }
        to += 2 * rows * bytes;
    }

    void read_taps(const Line& line, const uint32_t* at, uint8_t*& to, ValueTile*& tiles, __m512i& beyond) const {
        for (size_t t = line.first; t < line.last; ++t) {
            const DotsTap& tap = taps_[t];
            const size_t bytes = row_bytes(tap);
            uint8_t *low = to, *high = to + kRows * bytes;
            split_rows(tap.input, 2 * tap.pairs, kRows, [&](size_t p) { return at[p] * tap.stride; }, low, high, bytes,
                       beyond);
            add_tiles(tap, low, high, tiles);
            to += 2 * kRows * bytes;
        }
    }

    void read_together(const uint32_t* at, uint8_t* to, ValueTile* tiles, __m512i& beyond) const {
        const size_t bytes = depths_.count * kDepth;
        uint8_t *low = to, *high = to + kRows * bytes;
        for (size_t k = 0; k < depths_.count; ++k)
            tiles[k] = {low + k * kDepth, high + k * kDepth, static_cast<long>(bytes)};
        for (const DotsTap& tap : taps_) {
            split_rows(tap.input, 2 * tap.pairs, kRows, [&](size_t p) { return at[p] * tap.stride; }, low, high, bytes,
                       beyond);
            low += 2 * tap.pairs, high += 2 * tap.pairs;
        }
    }

    std::span<const DotsTap> taps_;
    const Depths& depths_;
    std::vector<Line> lines_;
};

// Tiles 0 to 3: sums of products of low, of high and low, of low and high, and of high bytes. Products that wait for
// each other's sums would take three times as long, which is why there are two for what counts the same.
template <bool kNarrowValues, bool kNarrowWeights>
inline BASIC_ALWAYS_INLINE void add_products(const uint8_t* low, const uint8_t* high, long row, const uint8_t* weights) {
    constexpr long kLine = kDepth;
    _tile_loadd(4, low, row);
    _tile_loadd(6, weights, kLine);
    if constexpr (kNarrowValues && kNarrowWeights) {
        _tile_dpbssd(0, 4, 6);
    } else if constexpr (kNarrowValues) {
        _tile_dpbsud(0, 4, 6);
        _tile_loadd(7, weights + kTileBytes, kLine);
        _tile_dpbssd(2, 4, 7);
    } else if constexpr (kNarrowWeights) {
        _tile_dpbusd(0, 4, 6);
        _tile_loadd(5, high, row);
        _tile_dpbssd(1, 5, 6);
    } else {
        _tile_dpbuud(0, 4, 6);
        _tile_loadd(5, high, row);
        _tile_dpbsud(1, 5, 6);
        _tile_loadd(7, weights + kTileBytes, kLine);
        _tile_dpbusd(2, 4, 7);
        _tile_dpbssd(3, 5, 7);
    }
}

// Tiles 0 to 3 over all depths.
void multiply(const ValueTile* values, bool narrow, const uint8_t* vector, size_t depths) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    const uint8_t *flags = vector, *weights = vector + bytes_of_flags(depths);
    for (size_t depth = 0; depth < depths; ++depth, weights += 2 * kTileBytes) {
        const auto [low, high, row] = values[depth];
        if (narrow)
            flags[depth] != 0 ? add_products<true, true>(low, high, row, weights)
                              : add_products<true, false>(low, high, row, weights);
        else
            flags[depth] != 0 ? add_products<false, true>(low, high, row, weights)
                              : add_products<false, false>(low, high, row, weights);
    }
}

struct Amx : Avx512 {
    static constexpr int kPositions = kRows;
};

// The sums of a tile and what they are added to, as a block of vectors.
inline BASIC_ALWAYS_INLINE void put_together(const int32_t* sums, const int32_t* to, size_t apart,
                                              __m512i (&block)[kRows][1]) {
    unrolled<kRows>([&](int p) BASIC_ALWAYS_INLINE {
        const int32_t* from = sums + static_cast<size_t>(p) * kColumns;
        const __m512i middle =
            _mm512_add_epi32(_mm512_load_si512(from + kSumsOfTile), _mm512_load_si512(from + 2 * kSumsOfTile));
        const __m512i high = _mm512_slli_epi32(_mm512_load_si512(from + 3 * kSumsOfTile), 16);
        const __m512i low = _mm512_add_epi32(_mm512_load_si512(from), Amx::load(to + static_cast<size_t>(p) * apart));
        block[p][0] = _mm512_add_epi32(_mm512_add_epi32(high, low), _mm512_slli_epi32(middle, 8));
    });
}

// Sums on their way from tiles to where they go. They leave the tiles' memory while the next ones are computed.
class Finishing {
  public:
    explicit Finishing(const DotsFinish* finish, size_t channels)
        : finish_(finish), channels_(channels), skips_(finish != nullptr ? finish->skip_count : 0) {}

    // Tiles 0 to 3, of 16 positions from one on and the channels of vector v, are added to those of `from`, which are
    // `apart` from each other.
    void take(size_t position, size_t v, const int32_t* from, size_t apart, int32_t* to) {
        finish();
        constexpr long kLine = kColumns * sizeof(int32_t);
        _tile_stored(0, found_, kLine);
        _tile_stored(1, found_ + kSumsOfTile, kLine);
        _tile_stored(2, found_ + 2 * kSumsOfTile, kLine);
        _tile_stored(3, found_ + 3 * kSumsOfTile, kLine);
        position_ = position, channel_ = v * kColumns, from_ = from, apart_ = apart, to_ = to;
        pending_ = true;
    }

    void finish() {
        if (!pending_) return;
        __m512i block[kRows][1];
        put_together(found_, from_, apart_, block);
        if (finish_ != nullptr) return finish_block<Amx, 1>(of_vector(), position_, block);
        unrolled<kRows>([&](int p) BASIC_ALWAYS_INLINE {
            Amx::store(to_ + static_cast<size_t>(p) * channels_, block[p][0]);
        });
    }

  private:
    // What becomes of the sums of the vector's channels.
    DotsFinish of_vector() {
        DotsFinish part = *finish_;
        for (size_t k = 0; k < skips_.size(); ++k) {
            const DotsSkip& skip = finish_->skips[k];
            skips_[k] = {skip.values + channel_, skip.stride, skip.shift + channel_};
        }
        part.how.shift += channel_, part.how.low += channel_, part.how.high += channel_;
        part.skips = skips_.data(), part.outputs += channel_;
        if (part.gate.values != nullptr) part.gate.values += channel_;
        return part;
    }

    alignas(64) int32_t found_[4 * kSumsOfTile];
    const DotsFinish* finish_;
    size_t channels_, position_ = 0, channel_ = 0, apart_ = 0;
    const int32_t* from_ = nullptr;
    int32_t* to_ = nullptr;
    bool pending_ = false;
    std::vector<DotsSkip> skips_;
};

void accumulate_tiles(const DotsTap* taps, size_t count, const int16_t* weights, const int32_t* bias, const uint32_t* at,
                      size_t positions, size_t vectors, int32_t* sums, const DotsFinish* finish) {
    std::vector<size_t> pairs(count);
    for (size_t t = 0; t < count; ++t) pairs[t] = taps[t].pairs;
    const Depths depths(pairs);
    const Values values(taps, count, depths);
    const size_t bytes = values.bytes(), channels = vectors * kColumns;
    const size_t together = std::clamp<size_t>(kValueBytes / bytes, 1, positions / kRows);
    const auto aligned = std::align_val_t{64};
    const auto free = [&](uint8_t* memory) { ::operator delete[](memory, aligned); };
    const std::unique_ptr<uint8_t[], decltype(free)> memory(new (aligned) uint8_t[together * bytes], free);
    std::vector<ValueTile> tiles(together * depths.count);
    std::vector<uint8_t> narrow(together);
    Finishing finishing(finish, channels);
    const Tiles scope;
    for (size_t first = 0; first < positions; first += together * kRows) {
        const size_t some = std::min(together, (positions - first) / kRows);
        for (size_t k = 0; k < some; ++k)
            narrow[k] = values.read(at + first + k * kRows, memory.get() + k * bytes, tiles.data() + k * depths.count);
        asm volatile("" : : : "memory");  // not all compilers know that tiles are loaded from there
        const auto* vector = reinterpret_cast<const uint8_t*>(weights);
        for (size_t v = 0; v < vectors; ++v, vector += bytes_of_vector(depths.count))
            for (size_t k = 0; k < some; ++k) {
                const size_t position = first + k * kRows;
                int32_t* to = sums + position * channels + v * kColumns;
                multiply(tiles.data() + k * depths.count, narrow[k] != 0, vector, depths.count);
                finishing.take(position, v, bias != nullptr ? bias + v * kColumns : to, bias != nullptr ? 0 : channels, to);
            }
    }
    finishing.finish();
}

// Reading a tap's values takes as long as nine pairs, tiles of sums as long as eight for each depth, and what becomes of
// them as long as 48. Measured on an Emerald Rapids.
bool is_small(size_t taps, size_t pairs, size_t vectors) {
    const size_t depths = depths_of(pairs);
    return 9 * std::max(taps, depths) + vectors * (8 * depths + 48) >= vectors * pairs;
}

constexpr Dots amx_dots() {
    Dots dots = dots_of<Amx>("amx", &accumulate_tiles);
    dots.vectors = 16;
    dots.positions = 48;  // which the small layers' six divide, too
    dots.weight_bytes = 1 << 20;
    dots.small = &kAvx512VnniDots, dots.is_small = &is_small;
    dots.packed = &packed, dots.pack = &pack;
    dots.read_squares = nullptr, dots.finish_squares = nullptr;
    return dots;
}

}  // namespace

const Dots kAmxDots = amx_dots();

}  // namespace basic
