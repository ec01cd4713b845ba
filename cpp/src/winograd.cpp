#include "winograd.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <optional>

#include "net_plan.hpp"
#include "vectorised.hpp"

namespace basic {
namespace {

constexpr size_t kSide = 3, kPlaces = kSide * kSide, kPoints = 16;

// Four times the sums are computed, and points are sums of four values.
constexpr uint32_t kMaxSum = 1u << 29, kReachUnit = 8;
constexpr int kMaxValue = INT16_MAX / 4;
constexpr uint32_t kMaxLowPart = 3;

// Values between those of a point and the next one's are not a multiple of what the places of a cache's set are apart.
constexpr size_t kSkew = 32;

// What a vector takes, in products of vectors: points of a square's values, sums of its points, and what becomes of
// them. Measured on a Zen 4, where it tells 16 channels, which are no faster, from 32.
constexpr size_t kReadCost = 50, kSumCost = 92;
constexpr double kWorthwhile = 0.9;

// A part of a layer while it is made: where its weights at each place begin in a block, in pairs of all taps.
struct Kernel {
    size_t source, first, pairs;
    std::array<std::optional<size_t>, kPlaces> places;
};

// The kernels of a layer, if all its taps lie in 3x3 places.
std::vector<Kernel> kernels_of(const NetLayer& layer) {
    std::vector<Kernel> kernels;
    size_t pairs = 0;
    for (const NetLayer::Tap& tap : layer.taps) {
        if (tap.stride != 1 || std::abs(tap.down) > 1 || std::abs(tap.right) > 1) return {};
        const size_t place = static_cast<size_t>(tap.down + 1) * kSide + static_cast<size_t>(tap.right + 1);
        auto kernel = std::find_if(kernels.begin(), kernels.end(), [&](const Kernel& other) {
            return other.source == tap.source && other.first == tap.first && !other.places[place];
        });
        if (kernel == kernels.end()) kernel = kernels.insert(kernel, {tap.source, tap.first, tap.pairs, {}});
        kernel->places[place] = pairs;
        pairs += tap.pairs;
    }
    return kernels;
}

// Whether a kernel has weights at a point: a point 0 is the first row's, or column's, alone, and a point 3 the last one's.
bool has(const Kernel& kernel, size_t point) {
    const auto reads = [](size_t coordinate, size_t place) {
        return coordinate == 0 ? place == 0 : coordinate == 3 ? place == 2 : true;
    };
    for (size_t place = 0; place < kPlaces; ++place)
        if (kernel.places[place] && reads(point / 4, place / kSide) && reads(point % 4, place % kSide)) return true;
    return false;
}

bool worthwhile(const NetLayer& layer, const std::vector<Kernel>& kernels, const Dots& dots) {
    size_t direct = 0, products = 0, reading = 0;
    for (const NetLayer::Tap& tap : layer.taps) direct += 4 * tap.pairs * layer.vectors;
    for (const Kernel& kernel : kernels) {
        if (2 * kernel.pairs < dots.values) return false;
        for (size_t point = 0; point < kPoints; ++point) products += has(kernel, point) * kernel.pairs * layer.vectors;
        reading += (2 * kernel.pairs + dots.values - 1) / dots.values * kReadCost;
    }
    return static_cast<double>(products + reading + layer.vectors * kSumCost) < kWorthwhile * static_cast<double>(direct);
}

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

// Of kernels whose weights at each place lie side by side: as many values for each point; and how far sums go, which are at
// most the range of values times the positive weights, or the negative ones. False if a point is no int16.
BASIC_VECTORISED
bool points_of_kernels(const int16_t* const* places, size_t count, int16_t* const* points, uint32_t* reach) {
    Numbers kernel[kPlaces] = {}, rows[4 * kSide], found[kPoints], positive, negative;
    int32_t beyond = 0;
    for (size_t first = 0; first < count; first += kTogether) {
        const size_t some = std::min(kTogether, count - first);
        positive = {}, negative = {};
        for (size_t place = 0; place < kPlaces; ++place)
            for (size_t k = 0; k < some; ++k) {
                const int32_t weight = kernel[place][k] = places[place][first + k];
                positive[k] += std::max(weight, 0), negative[k] -= std::min(weight, 0);
            }
        for (size_t k = 0; k < some; ++k)
            reach[first + k] = (static_cast<uint32_t>(std::max(positive[k], negative[k])) + kReachUnit - 1) / kReachUnit;
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

}  // namespace

std::unique_ptr<const Winograd> Winograd::of(const NetLayer& layer, const Dots& dots) {
    std::unique_ptr<Winograd> result(new Winograd(dots));
    return result->take(layer) ? std::move(result) : nullptr;
}

bool Winograd::take(const NetLayer& layer) {
    if (!layer.skips.empty() || layer.wide) return false;
    const std::vector<Kernel> kernels = kernels_of(layer);
    if (kernels.empty() || !worthwhile(layer, kernels, dots_)) return false;
    vectors_ = layer.vectors, outputs_ = vectors_ * dots_.lanes;
    size_t channels = 0, pairs = 0, most = 0, products = 0;
    for (const Kernel& kernel : kernels) {
        parts_.push_back({kernel.source, kernel.first, 2 * kernel.pairs, {}});
        channels += 2 * kernel.pairs, most = std::max(most, 2 * kernel.pairs);
        for (size_t point = 0; point < kPoints; ++point) products += has(kernel, point) * 2 * kernel.pairs;
    }
    weights_.reserve(products * outputs_);
    for (const NetLayer::Tap& tap : layer.taps) pairs += tap.pairs;
    reach_.resize(channels * outputs_);
    const size_t widest = dots_.vectors * dots_.lanes;
    const std::vector<int16_t> none(most * widest);
    std::vector<int16_t> unused(most * widest);
    std::vector<uint32_t> reach(most * widest);
    for (size_t first = 0; first < vectors_; first += dots_.vectors) {
        const size_t width = std::min(dots_.vectors, vectors_ - first) * dots_.lanes;
        const int16_t* block = layer.weights.data() + first * dots_.lanes * 2 * pairs;
        uint16_t* to = reach_.data() + first * dots_.lanes;
        for (size_t part = 0; part < kernels.size(); ++part) {
            const size_t count = parts_[part].channels * width;
            for (size_t point = 0; point < kPoints; ++point) {
                const bool weighs = has(kernels[part], point);
                parts_[part].weights.push_back(weighs ? std::optional(weights_.size()) : std::nullopt);
                if (weighs) weights_.resize(weights_.size() + count);
            }
            const int16_t* places[kPlaces];
            for (size_t place = 0; place < kPlaces; ++place) {
                const std::optional<size_t> at = kernels[part].places[place];
                places[place] = at ? block + *at * 2 * width : none.data();
            }
            int16_t* points[kPoints];
            for (size_t point = 0; point < kPoints; ++point) {
                const std::optional<size_t> at = (parts_[part].weights.end() - kPoints)[static_cast<std::ptrdiff_t>(point)];
                points[point] = at ? weights_.data() + *at : unused.data();
            }
            if (!points_of_kernels(places, count, points, reach.data())) return false;
            for (size_t k = 0; k < count; k += 2 * width, to += 2 * outputs_)
                for (size_t output = 0; output < width; ++output) {
                    to[output] = static_cast<uint16_t>(reach[k + 2 * output]);
                    to[outputs_ + output] = static_cast<uint16_t>(reach[k + 2 * output + 1]);
                }
        }
    }
    std::vector<uint64_t> sums(outputs_);
    for (size_t c = 0; c < channels; ++c) add_scaled(reach_.data() + c * outputs_, kMaxLowPart, outputs_, sums.data());
    return *std::max_element(sums.begin(), sums.end()) < kMaxSum / kReachUnit;
}

Winograd::Sums::Sums(const Winograd& winograd, size_t squares) : dots_(winograd.dots_), squares_(squares) {
    values_ = Memory(static_cast<size_t>(block(rounded_up(winograd.vectors_, dots_.vectors)) - block(0)) * sizeof(int32_t));
}

int32_t* Winograd::Sums::block(size_t first) const {
    return values_.as<int32_t>() + kPoints * (first * dots_.lanes * squares_ + first / dots_.vectors * kSkew);
}

size_t Winograd::Sums::apart(size_t vectors) const { return vectors * dots_.lanes * squares_ + kSkew; }

bool Winograd::add(std::span<const std::shared_ptr<const Plane>> planes, std::span<const uint32_t> at, ValuePart what,
                   const uint32_t* numbers, const Sums& sums) const {
    size_t most_channels = 0;
    for (const Part& part : parts_) most_channels = std::max(most_channels, part.channels);
    const Memory points(kPoints * (at.size() * most_channels + kSkew) * sizeof(int16_t));
    std::vector<uint64_t> largest(outputs_);
    const uint16_t* reach = reach_.data();
    for (size_t number = 0; number < parts_.size(); ++number) {
        const Part& part = parts_[number];
        const Plane& plane = *planes[part.source];
        const size_t stride = plane.stride(), row = (plane.width() + 2 * kBorder) * stride;
        const size_t apart = at.size() * part.channels + kSkew;
        std::vector<int16_t> least(part.channels), most(part.channels);
        dots_.read_squares(plane.data() + plane.position(0, 0) * stride - row - stride + part.first, what, row, stride,
                           at.data(), at.size(), part.channels, points.as<int16_t>(), apart, least.data(), most.data());
        if (what == ValuePart::whole) {
            for (size_t c = 0; c < part.channels; ++c, reach += outputs_) {
                if (least[c] < -kMaxValue || most[c] > kMaxValue) return false;
                if (least[c] != most[c]) add_scaled(reach, static_cast<uint32_t>(most[c] - least[c]), outputs_, largest.data());
            }
            if (*std::max_element(largest.begin(), largest.end()) >= kMaxSum / kReachUnit) return false;
        }
        add_part(number, points.as<int16_t>(), apart, at.size(), numbers, sums);
    }
    return true;
}

void Winograd::add_part(size_t number, const int16_t* points, size_t apart, size_t squares, const uint32_t* numbers,
                        const Sums& sums) const {
    const Part& part = parts_[number];
    const std::vector<int32_t> zeros(dots_.vectors * dots_.lanes);
    auto weights = part.weights.begin();
    for (size_t first = 0; first < vectors_; first += dots_.vectors) {
        const size_t vectors = std::min(dots_.vectors, vectors_ - first);
        for (size_t point = 0; point < kPoints; ++point, ++weights) {
            int32_t* to = sums.block(first) + point * sums.apart(vectors);
            const DotsTap tap{points + point * apart, part.channels, part.channels / 2};
            if (*weights)
                dots_.accumulate(&tap, 1, weights_.data() + **weights, number == 0 ? zeros.data() : nullptr, numbers, squares,
                                 vectors, to, nullptr);
            else if (number == 0)
                std::fill_n(to, squares * vectors * dots_.lanes, 0);
        }
    }
}

}  // namespace basic
