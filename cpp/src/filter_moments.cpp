// Written for auto-vectorisation on any target: sums of products of int16.
#include <stdexcept>

#include "basic/post_filter.hpp"
#include "filter_lines.hpp"

namespace basic {
namespace {

constexpr size_t kBlock = 512, kUnit = 32;  // columns at a time, whose features stay in the nearest caches, and of a loop
constexpr size_t kDown = 2, kAcross = 4, kTile = kDown * kAcross;  // features by features whose sums stay in registers

// Of samples of a block: features, then errors, then zeros to a multiple of kAcross.
constexpr size_t features_of(size_t colours) { return kFilterPairs * colours * 2; }
constexpr size_t signals_of(size_t colours) { return (features_of(colours) + colours + kAcross - 1) / kAcross * kAcross; }

// Products are at most 510^2, and those of so many blocks fit an int32.
constexpr size_t kBlocks = INT32_MAX / (kBlock * 510 * 510);
static_assert(kBlocks > 0);

// found[i * kAcross + j] += the sum of the products of signals i and j.
BASIC_VECTORISED
void multiply(const int16_t* __restrict down, const int16_t* __restrict across, size_t units, int32_t* __restrict found) {
    int32_t sums[kDown][kAcross] = {};
    for (size_t k = 0; k < units * kUnit; ++k)
        unrolled<kDown>([&](int i) BASIC_ALWAYS_INLINE {
            unrolled<kAcross>([&](int j) BASIC_ALWAYS_INLINE {
                sums[i][j] += int32_t{down[static_cast<size_t>(i) * kBlock + k]} *
                              int32_t{across[static_cast<size_t>(j) * kBlock + k]};
            });
        });
    for (size_t i = 0; i < kDown; ++i)
        for (size_t j = 0; j < kAcross; ++j) found[i * kAcross + j] += sums[i][j];
}

// The tiles of a symmetric matrix of so many signals that hold all of its upper half, row by row.
class Tiles {
  public:
    explicit Tiles(size_t signals) {
        for (size_t i = 0; i < signals; i += kDown) {
            starts_.push_back(count_);
            count_ += (signals - left(i)) / kAcross;
        }
    }

    size_t count() const { return count_; }

    // The first signal across of a row's tiles.
    static size_t left(size_t row) { return row / kAcross * kAcross; }

    // Where the value of two signals is, the first no later than the second.
    size_t at(size_t first, size_t second) const {
        const size_t row = first / kDown * kDown;
        return (starts_[first / kDown] + (second - left(row)) / kAcross) * kTile + (first - row) * kAcross + second % kAcross;
    }

  private:
    std::vector<size_t> starts_;  // of each row, its first tile
    size_t count_ = 0;
};

BASIC_VECTORISED
void put_features(const int16_t* __restrict centre, const int16_t* __restrict near, const int16_t* __restrict far,
                  size_t count, int16_t* __restrict clipped, int16_t* __restrict linear) {
    constexpr int16_t kClip = kFilterClip;
    for (size_t k = 0; k < count; ++k) {
        const auto a = static_cast<int16_t>(near[k] - centre[k]), b = static_cast<int16_t>(far[k] - centre[k]);
        linear[k] = static_cast<int16_t>(a + b);
        clipped[k] = static_cast<int16_t>(std::clamp<int16_t>(a, -kClip, kClip) + std::clamp<int16_t>(b, -kClip, kClip));
    }
}

template <size_t kColours>
BASIC_VECTORISED
void put_errors(const int16_t* __restrict centre, size_t planes, const uint8_t* __restrict original, size_t count,
                int16_t* __restrict errors) {
    for (size_t k = 0; k < count; ++k)
        unrolled<kColours>([&](int c) BASIC_ALWAYS_INLINE {
            const auto colour = static_cast<size_t>(c);
            errors[colour * kBlock + k] = static_cast<int16_t>(original[k * kColours + colour] - centre[colour * planes + k]);
        });
}

// Rows that one thread looks at, and the sums of them.
class Band {
  public:
    Band(const ConstPicture& decoded, const ConstPicture& original, size_t first, size_t last)
        : decoded_(decoded), original_(original), first_(first), last_(last),
          lines_(decoded.columns, decoded.colours, 0), signals_(signals_of(decoded.colours)),
          tiles_(signals_), values_(signals_ * kBlock), found_(tiles_.count() * kTile), sums_(found_.size()) {}

    void run() {
        const size_t columns = decoded_.columns, blocks = (columns + kBlock - 1) / kBlock;  // of a row, as even as can be
        const size_t each = units_of((columns + blocks - 1) / blocks) * kUnit;
        walk(first_, last_, columns, each, [this](ptrdiff_t row) { load(row); },
             [this](ptrdiff_t row, size_t column, size_t count) { add(row, column, count); });
        put_away();
    }

    // The sum of the products of two signals, the first no later than the second.
    int64_t sum(size_t first, size_t second) const { return sums_[tiles_.at(first, second)]; }

  private:
    static size_t units_of(size_t columns) { return (columns + kUnit - 1) / kUnit; }

    void load(ptrdiff_t row) {
        const ptrdiff_t inside = std::clamp<ptrdiff_t>(row, 0, static_cast<ptrdiff_t>(decoded_.rows) - 1);
        lines_.load(row, decoded_.pixels + inside * decoded_.row_stride);
    }

    void add(ptrdiff_t row, size_t column, size_t count) {
        const size_t units = units_of(count);
        if (count < units * kUnit) std::fill(values_.begin(), values_.end(), int16_t{0});
        const size_t colours = decoded_.colours;
        const Places<int16_t> places = lines_.places(row, column);
        int16_t* to = values_.data();
        for (size_t k = 0; k < kFilterPairs; ++k)
            for (size_t c = 0; c < colours; ++c, to += 2 * kBlock) {
                const size_t at = c * places.planes;
                put_features(places.centre + at, places.near[k] + at, places.far[k] + at, count, to, to + kBlock);
            }
        const uint8_t* original = original_.pixels + row * original_.row_stride + static_cast<ptrdiff_t>(column * colours);
        (colours == 3 ? &put_errors<3> : &put_errors<1>)(places.centre, places.planes, original, count, to);
        int32_t* found = found_.data();
        for (size_t i = 0; i < signals_; i += kDown)
            for (size_t j = Tiles::left(i); j < signals_; j += kAcross, found += kTile)
                multiply(values_.data() + i * kBlock, values_.data() + j * kBlock, units, found);
        if (++blocks_ == kBlocks) put_away();
    }

    void put_away() {
        for (size_t k = 0; k < found_.size(); ++k) sums_[k] += found_[k];
        std::fill(found_.begin(), found_.end(), 0);
        blocks_ = 0;
    }

    const ConstPicture &decoded_, &original_;
    size_t first_, last_;
    Lines<int16_t> lines_;
    size_t signals_;
    Tiles tiles_;
    std::vector<int16_t> values_;  // (signals, kBlock)
    std::vector<int32_t> found_;   // sums over the last blocks, of each tile (down, across)
    std::vector<int64_t> sums_;    // those before
    size_t blocks_ = 0;
};

}  // namespace

FilterMoments filter_moments(const ConstPicture& decoded, const ConstPicture& original, size_t first, size_t last,
                             size_t threads) {
    const size_t colours = decoded.colours, features = features_of(colours);
    if (colours != 1 && colours != 3) throw std::invalid_argument("pixels have 1 or 3 colours");
    if (original.rows != decoded.rows || original.columns != decoded.columns || original.colours != colours)
        throw std::invalid_argument("both pictures must have the same shape");
    if (first > last || last > decoded.rows) throw std::invalid_argument("the picture has no such rows");
    Workers& workers = Workers::of(threads);  // refuses what are no threads, whatever there is to do
    FilterMoments result{std::vector<int64_t>(features * features), std::vector<int64_t>(features * colours)};
    if (first == last || decoded.columns == 0) return result;
    for (const Band& band : run_bands<Band>(workers, first, last, threads, decoded, original))
        for (size_t i = 0; i < features; ++i) {
            for (size_t j = 0; j < features; ++j)
                result.features[i * features + j] += band.sum(std::min(i, j), std::max(i, j));
            for (size_t c = 0; c < colours; ++c) result.errors[i * colours + c] += band.sum(i, features + c);
        }
    return result;
}

}  // namespace basic
