#include "filter_choice.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace basic::codec {
namespace {

// Rows of a strip; of a large picture so many strips are looked at, or as many as have so many pixels.
constexpr size_t kStrip = 64, kLeastStrips = 8, kPixels = 2'000'000;
constexpr size_t kMargin = 2;  // rows of a strip, above and below, that are there for the features of the others
constexpr size_t kChunkBits = 8 * 10;  // type, length, checksum and Rice parameter

std::vector<Range> strips_of(size_t height, size_t width) {
    const size_t count = std::max(kLeastStrips, kPixels / (kStrip * width)), apart = height / count;
    if (apart <= kStrip || height * width <= kPixels) return {{0, height}};
    std::vector<Range> found;
    for (size_t k = 0; k < count; ++k)
        found.push_back({(apart - kStrip) / 2 + apart * k, (apart - kStrip) / 2 + apart * k + kStrip});
    return found;
}

// The sum of numbers, rounded once at the end, whatever their order (Shewchuk, "Adaptive Precision Floating-Point
// Arithmetic", 1997).
class ExactSum {
  public:
    void add(double value) {
        size_t kept = 0;
        for (double part : parts_) {
            if (std::abs(value) < std::abs(part)) std::swap(value, part);
            const double high = value + part, low = part - (high - value);
            if (low != 0) parts_[kept++] = low;
            value = high;
        }
        parts_.resize(kept);
        parts_.push_back(value);
    }
    double value() const {
        double sum = 0;
        for (size_t k = parts_.size(); k-- > 0;) sum += parts_[k];
        return sum;
    }

  private:
    std::vector<double> parts_;
};

// Sums over the samples of a picture, as doubles.
struct Moments {
    std::vector<double> features, errors;
    size_t colours;

    // Squared errors of samples that a filter takes away, before rounding to bytes.
    double gain(const std::vector<int8_t>& weights) const {
        const size_t count = weights.size() / colours;
        const auto weight = [&](size_t feature, size_t colour) {
            return weights[colour * count + feature] / double{1 << kFilterBits};
        };
        ExactSum sum;
        for (size_t i = 0; i < count; ++i) {
            for (size_t c = 0; c < colours; ++c) sum.add(2 * weight(i, c) * errors[i * colours + c]);
            for (size_t j = 0; j < count; ++j) {
                double both = 0;
                for (size_t c = 0; c < colours; ++c) both += weight(i, c) * weight(j, c);
                sum.add(-(both * features[i * count + j]));
            }
        }
        return sum.value();
    }
};

Moments moments_of(const Model& model, const ConstPicture& picture, const Header& header, const Latents& latents,
                   uint32_t synthesis) {
    const Shape shape = Shape::of(header);
    const size_t count = filter_weights(shape.colours()) / shape.colours(),
                 row_bytes = size_t{header.width} * shape.colours();
    FilterMoments sums{std::vector<int64_t>(count * count), std::vector<int64_t>(count * shape.colours())};
    size_t counted = 0;
    for (const Range& rows : strips_of(header.height, header.width)) {
        std::vector<uint8_t> pixels((rows.last - rows.first) * row_bytes);
        synthesise(model, shape, latents, synthesis, rows, pixels.data());
        const ConstPicture decoded{pixels.data(), static_cast<ptrdiff_t>(row_bytes), rows.last - rows.first,
                                   header.width, shape.colours()};
        ConstPicture original = picture;
        original.pixels += static_cast<ptrdiff_t>(rows.first) * picture.row_stride;
        original.rows = decoded.rows;
        const size_t first = rows.first > 0 ? kMargin : 0,
                     last = decoded.rows - (rows.last < header.height ? kMargin : 0);
        const FilterMoments found = filter_moments(decoded, original, first, last, model.threads());
        for (size_t k = 0; k < sums.features.size(); ++k) sums.features[k] += found.features[k];
        for (size_t k = 0; k < sums.errors.size(); ++k) sums.errors[k] += found.errors[k];
        counted += last - first;
    }
    const double whole = static_cast<double>(header.height) / static_cast<double>(counted);
    Moments moments{{}, {}, shape.colours()};
    for (const int64_t sum : sums.features) moments.features.push_back(whole * static_cast<double>(sum));
    for (const int64_t sum : sums.errors) moments.errors.push_back(whole * static_cast<double>(sum));
    return moments;
}

}  // namespace

std::optional<std::vector<int8_t>> worthwhile_filter(const Model& model, const ConstPicture& picture,
                                                     const Header& header, const Latents& latents, double worth) {
    const auto synthesis = model.member(header).syntheses[static_cast<size_t>(header.decode_level)];
    const size_t colours = header.gray ? 1 : 3;
    const Moments moments = moments_of(model, picture, header, latents, *synthesis);
    const double bits_per_error = worth / static_cast<double>(colours);
    const std::vector<int8_t> weights = fit_filter(moments.features, moments.errors, colours, bits_per_error);
    const std::vector<int8_t> usual = model.filter(*synthesis, header.quality_step, header.gray);
    const double gain = moments.gain(weights) - (usual.empty() ? 0 : moments.gain(usual));
    const double cost = 8 * static_cast<double>(pack_filter(weights).size()) + kChunkBits;
    return gain * bits_per_error > cost ? std::optional(weights) : std::nullopt;
}

}  // namespace basic::codec
