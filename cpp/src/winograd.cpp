#include "winograd.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>

#include "net_plan.hpp"
#include "vectorised.hpp"

namespace basic {
namespace {

constexpr size_t kSide = 3, kPlaces = kSide * kSide, kPoints = kSquarePoints;

// Four times the sums are computed, and points are sums of four values.
constexpr uint32_t kMaxSum = 1u << 29, kReachUnit = 8;
constexpr int kMaxValue = INT16_MAX / 4;
constexpr uint32_t kMaxLowPart = 3;
static_assert(kPlaces * 32768 / kReachUnit <= UINT16_MAX);  // the largest reach

// Values between those of a point and the next one's, so that not all points fall into the same set of a cache.
constexpr size_t kSkew = 32;

// What a vector takes, in products of vectors: points of a square's values, sums of its points, and what becomes of
// them. Measured on a Zen 4, where it tells 16 channels, which are no faster, from 32.
constexpr size_t kReadCost = 50, kSumCost = 92;
constexpr double kWorthwhile = 0.9;

// Sums of a piece, of which each thread has one or two, may take so many bytes: those of 1024 channels.
constexpr size_t kMaxSums = 3 << 20;

// So many kernels at a time, whose numbers of a kind lie side by side for compilers to vectorise.
constexpr size_t kTogether = 64;
using Numbers = std::array<int32_t, kTogether>;

// The four points of three weights, doubled to be whole.
inline void points_of_weights(const Numbers* weights, size_t step, Numbers* points, size_t apart) {
    const Numbers &first = weights[0], &middle = weights[step], &last = weights[2 * step];
    for (size_t k = 0; k < kTogether; ++k) {
        points[0][k] = 2 * first[k];
        points[apart][k] = first[k] + middle[k] + last[k];
        points[2 * apart][k] = first[k] - middle[k] + last[k];
        points[3 * apart][k] = 2 * last[k];
    }
}

// Of kernels whose weights at each place lie side by side: as many values for each point; and how far sums go, which are
// at most the range of values times the positive weights, or the negative ones. False if a point is no int16.
BASIC_VECTORISED
bool points_of_kernels(const int16_t* const* places, size_t count, int16_t* const* points, uint32_t* reach) {
    Numbers kernel[kPlaces] = {}, rows[4 * kSide], found[kPoints], positive, negative;
    int32_t beyond = 0;
    for (size_t first = 0; first < count; first += kTogether) {
        const size_t some = std::min(kTogether, count - first);
        positive = {}, negative = {};
        for (size_t place = 0; place < kPlaces; ++place) {
            for (size_t k = 0; k < some; ++k) kernel[place][k] = places[place][first + k];
            for (size_t k = 0; k < kTogether; ++k) positive[k] += std::max(kernel[place][k], 0);
            for (size_t k = 0; k < kTogether; ++k) negative[k] -= std::min(kernel[place][k], 0);
        }
        for (size_t k = 0; k < some; ++k) {
            const auto largest = static_cast<uint32_t>(std::max(positive[k], negative[k]));
            reach[first + k] = (largest + kReachUnit - 1) / kReachUnit;
        }
        for (size_t column = 0; column < kSide; ++column) points_of_weights(kernel + column, kSide, rows + column, kSide);
        for (size_t row = 0; row < 4; ++row) points_of_weights(rows + row * kSide, 1, found + 4 * row, 1);
        for (size_t point = 0; point < kPoints; ++point)
            for (size_t k = 0; k < some; ++k) {
                beyond |= (found[point][k] + 32768) & ~0xffff;
                points[point][first + k] = static_cast<int16_t>(found[point][k]);
            }
    }
    return beyond == 0;
}

BASIC_VECTORISED
void add_scaled(const uint16_t* row, uint32_t scale, size_t count, uint64_t* sums) {
    for (size_t k = 0; k < count; ++k) sums[k] += uint64_t{scale} * row[k];
}

bool hold(const std::vector<uint64_t>& sums) {
    return *std::max_element(sums.begin(), sums.end()) < kMaxSum / kReachUnit;
}

}  // namespace

// Channels of a tensor, and where their weights at each place begin in a block of the layer's, in pairs of all taps.
struct Winograd::Kernel {
    size_t tensor, first, pairs;
    std::array<std::optional<size_t>, kPlaces> places;

    // Those of a layer, if all its taps lie in 3x3 places.
    static std::vector<Kernel> of(const NetLayer& layer);

    // Whether it has weights at a point: a point 0 is the first row's, or column's, alone, and a point 3 the last one's.
    bool has(size_t point) const {
        const auto reads = [](size_t coordinate, size_t place) {
            return coordinate == 0 ? place == 0 : coordinate == 3 ? place == 2 : true;
        };
        for (size_t place = 0; place < kPlaces; ++place)
            if (places[place] && reads(point / 4, place / kSide) && reads(point % 4, place % kSide)) return true;
        return false;
    }

    size_t points() const {
        size_t count = 0;
        for (size_t point = 0; point < kPoints; ++point) count += has(point);
        return count;
    }

    static bool fit_if_worthwhile(const std::vector<Kernel>& kernels, const NetLayer& layer);
};

std::vector<Winograd::Kernel> Winograd::Kernel::of(const NetLayer& layer) {
    std::vector<Kernel> kernels;
    size_t pairs = 0;
    for (const NetLayer::Tap& tap : layer.taps) {
        if (tap.stride != 1 || std::abs(tap.down) > 1 || std::abs(tap.right) > 1) return {};
        const size_t place = static_cast<size_t>(tap.down + 1) * kSide + static_cast<size_t>(tap.right + 1);
        auto kernel = std::find_if(kernels.begin(), kernels.end(), [&](const Kernel& other) {
            return other.tensor == tap.source && other.first == tap.first && !other.places[place];
        });
        if (kernel == kernels.end()) kernel = kernels.insert(kernel, {tap.source, tap.first, tap.pairs, {}});
        kernel->places[place] = pairs;
        pairs += tap.pairs;
    }
    return kernels;
}

bool Winograd::Kernel::fit_if_worthwhile(const std::vector<Kernel>& kernels, const NetLayer& layer) {
    const Dots& dots = *layer.dots;
    size_t products = 0, reading = 0;
    for (const Kernel& kernel : kernels) {
        if (2 * kernel.pairs < dots.values) return false;
        products += kernel.points() * kernel.pairs * layer.vectors;
        reading += (2 * kernel.pairs + dots.values - 1) / dots.values * kReadCost;
    }
    const size_t outputs = layer.vectors * dots.lanes;
    if (kPoints * (kPositionsAtOnce / 4) * outputs * sizeof(int32_t) > kMaxSums) return false;
    const size_t direct = 4 * layer.pairs() * layer.vectors;
    return static_cast<double>(products + reading + layer.vectors * kSumCost) < kWorthwhile * static_cast<double>(direct);
}

std::unique_ptr<const Winograd> Winograd::of(const NetLayer& layer, const int16_t* weights) {
    std::unique_ptr<Winograd> result(new Winograd(*layer.dots));
    return result->set_up(layer, weights) ? std::move(result) : nullptr;
}

bool Winograd::set_up(const NetLayer& layer, const int16_t* weights) {
    if (!layer.skips.empty() || layer.wide || dots_.read_squares == nullptr) return false;
    const std::vector<Kernel> kernels = Kernel::of(layer);
    if (kernels.empty() || !Kernel::fit_if_worthwhile(kernels, layer)) return false;
    vectors_ = layer.vectors, outputs_ = vectors_ * dots_.lanes;
    for (const Kernel& kernel : kernels) sources_.push_back({kernel.tensor, kernel.first, 2 * kernel.pairs, {}});
    return set_weights(layer, weights, kernels) && low_parts_hold();
}

bool Winograd::set_weights(const NetLayer& layer, const int16_t* block, const std::vector<Kernel>& kernels) {
    size_t channels = 0, most = 0, products = 0;
    for (const Kernel& kernel : kernels) {
        channels += 2 * kernel.pairs, most = std::max(most, 2 * kernel.pairs);
        products += kernel.points() * 2 * kernel.pairs;
    }
    weights_.reserve(products * outputs_);
    reach_.resize(channels * outputs_);
    most *= dots_.vectors * dots_.lanes;
    const std::vector<int16_t> none(most);
    std::vector<int16_t> unused(most);
    std::vector<uint32_t> reach(most);
    for (size_t first = 0; first < vectors_; first += dots_.vectors) {
        const size_t width = std::min(dots_.vectors, vectors_ - first) * dots_.lanes;
        size_t channel = 0;
        for (size_t number = 0; number < kernels.size(); ++number) {
            Source& source = sources_[number];
            const size_t count = source.channels * width, start = source.weights.size();
            for (size_t point = 0; point < kPoints; ++point) {
                const bool weighs = kernels[number].has(point);
                source.weights.push_back(weighs ? std::optional(weights_.size()) : std::nullopt);
                if (weighs) weights_.resize(weights_.size() + count);
            }
            const int16_t* places[kPlaces];
            for (size_t place = 0; place < kPlaces; ++place) {
                const std::optional<size_t> at = kernels[number].places[place];
                places[place] = at ? block + *at * 2 * width : none.data();
            }
            int16_t* points[kPoints];
            for (size_t point = 0; point < kPoints; ++point) {
                const std::optional<size_t> at = source.weights[start + point];
                points[point] = at ? weights_.data() + *at : unused.data();
            }
            if (!points_of_kernels(places, count, points, reach.data())) return false;
            for (size_t c = 0; c < source.channels; c += 2) {  // (pair, output, 2) to (channel, output)
                uint16_t* to = reach_.data() + (channel + c) * outputs_ + first * dots_.lanes;
                for (size_t output = 0; output < width; ++output) {
                    to[output] = static_cast<uint16_t>(reach[c * width + 2 * output]);
                    to[outputs_ + output] = static_cast<uint16_t>(reach[c * width + 2 * output + 1]);
                }
            }
            channel += source.channels;
        }
        block += layer.pairs() * 2 * width;
    }
    return true;
}

bool Winograd::low_parts_hold() const {
    std::vector<uint64_t> sums(outputs_);
    for (size_t at = 0; at < reach_.size(); at += outputs_)
        add_scaled(reach_.data() + at, kMaxLowPart, outputs_, sums.data());
    return hold(sums);
}

Winograd::Sums::Sums(const Winograd& winograd, size_t squares) : dots_(winograd.dots_), squares_(squares) {
    values_ = Memory(offset(rounded_up(winograd.vectors_, dots_.vectors)) * sizeof(int32_t));
}

size_t Winograd::Sums::offset(size_t first) const {
    return kPoints * (first * dots_.lanes * squares_ + first / dots_.vectors * kSkew);
}

size_t Winograd::Sums::apart(size_t vectors) const { return vectors * dots_.lanes * squares_ + kSkew; }

bool Winograd::compute(Planes planes, std::span<const uint32_t> at, const uint32_t* numbers, Sums& sums) const {
    std::vector<uint64_t> largest(outputs_);
    const uint16_t* reach = reach_.data();
    for (size_t number = 0; number < sources_.size(); ++number) {
        const Points points = read(sources_[number], ValuePart::whole, planes, at);
        for (size_t c = 0; c < sources_[number].channels; ++c, reach += outputs_) {
            const int least = points.least[c], most = points.most[c];
            if (least < -kMaxValue || most > kMaxValue) return false;
            if (least != most) add_scaled(reach, static_cast<uint32_t>(most - least), outputs_, largest.data());
        }
        if (!hold(largest)) return false;
        multiply(number, points, at.size(), numbers, sums);
    }
    return true;
}

void Winograd::compute_part(ValuePart part, Planes planes, std::span<const uint32_t> at, const uint32_t* numbers,
                            Sums& sums) const {
    for (size_t number = 0; number < sources_.size(); ++number)
        multiply(number, read(sources_[number], part, planes, at), at.size(), numbers, sums);
}

Winograd::Points Winograd::read(const Source& source, ValuePart part, Planes planes,
                                std::span<const uint32_t> at) const {
    const PlaneView& view = planes[source.tensor];
    const size_t row = view.across * view.stride;
    const size_t apart = at.size() * source.channels + kSkew;
    // Least and most begin at 0, as sums of zeros are what reaches are counted from.
    Points points{Memory(kPoints * apart * sizeof(int16_t)), apart, std::vector<int16_t>(source.channels),
                  std::vector<int16_t>(source.channels)};
    const Squares squares{view.values - row - view.stride + source.first, row, view.stride, at.data(), at.size(),
                          source.channels};
    dots_.read_squares(squares, part, points.values.as<int16_t>(), apart, points.least.data(), points.most.data());
    return points;
}

void Winograd::multiply(size_t number, const Points& points, size_t squares, const uint32_t* numbers, Sums& sums) const {
    const Source& source = sources_[number];
    auto weights = source.weights.begin();
    for (size_t first = 0; first < vectors_; first += dots_.vectors) {
        const size_t vectors = std::min(dots_.vectors, vectors_ - first);
        for (size_t point = 0; point < kPoints; ++point, ++weights) {
            int32_t* to = sums.block(first) + point * sums.apart(vectors);
            const int16_t* values = points.values.as<int16_t>() + point * points.apart;
            const DotsTap tap{values, values, source.channels, source.channels / 2};
            if (*weights)
                dots_.accumulate(&tap, 1, weights_.data() + **weights, number == 0 ? zeros_.data() : nullptr, numbers,
                                 squares, vectors, to, nullptr);
            else if (number == 0)
                std::fill_n(to, squares * vectors * dots_.lanes, 0);
        }
    }
}

}  // namespace basic
