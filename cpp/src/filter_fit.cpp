// In double precision, operation by operation in the order in which they are written (CMakeLists.txt keeps compilers from
// multiplying and adding at once): every machine finds the same weights.
#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

#include "basic/post_filter.hpp"

namespace basic {
namespace {

// Squared units of a weight count as this many squared errors: enough to decide what no sample decides.
constexpr double kRidge = 1.0;

constexpr double kUnit = 1 << kFilterBits;

// Of a weight, the nearest number of units that there is.
double whole(double weight) { return std::clamp(std::nearbyint(weight * kUnit), -128.0, 127.0); }

// Bits of a weight of so many units beyond those of a weight 0, with the Rice parameter that is usual.
double more_bits(double units) {
    constexpr int kRice = 3;
    return units == 0 ? 0 : 2 + kRice + static_cast<double>((static_cast<int>(std::abs(units)) - 1) >> kRice);
}

// The weights of a colour that leave the least error; those that are fixed stay, and the others make up for it.
class LeastSquares {
  public:
    // `inverse`: (n, n), of the second derivatives of half the error.
    LeastSquares(std::vector<double> inverse, std::vector<double> weights)
        : inverse_(std::move(inverse)), weights_(std::move(weights)), open_(weights_.size(), true) {}

    // Fixes weights at 0 that are not worth their bits, one after the other (LeCun et al., "Optimal Brain Damage", and
    // Hassibi and Stork, "Optimal Brain Surgeon", both exact for a quadratic function).
    void prune(double bits_per_error) {
        const size_t n = weights_.size();
        for (;;) {
            size_t worst = n;
            double least = std::numeric_limits<double>::infinity();
            for (size_t k = 0; k < n; ++k) {
                if (!open_[k]) continue;
                const double difference = lost(k, bits_per_error) - more_bits(whole(weights_[k]));
                if (difference < least) least = difference, worst = k;
            }
            if (worst == n) return;
            const double saved = more_bits(whole(weights_[worst]));
            if (lost(worst, bits_per_error) >= saved && saved > 0) return;
            fix(worst, 0);
        }
    }

    // Units: weights are rounded one by one, and those that are still open make up for what that changed.
    void round_to(int8_t* units) {
        for (size_t k = 0; k < weights_.size(); ++k)
            if (open_[k]) fix(k, whole(weights_[k]) / kUnit);
        for (size_t k = 0; k < weights_.size(); ++k) units[k] = static_cast<int8_t>(whole(weights_[k]));
    }

  private:
    // Bits' worth of what fixing a weight at 0 adds to the error.
    double lost(size_t k, double bits_per_error) const {
        return weights_[k] * weights_[k] / inverse_[k * weights_.size() + k] * bits_per_error;
    }

    void fix(size_t place, double value) {
        const size_t n = weights_.size();
        std::vector<double> column(n), share(n);
        for (size_t k = 0; k < n; ++k) column[k] = inverse_[k * n + place];
        for (size_t k = 0; k < n; ++k) share[k] = column[k] / column[place];
        const double by = value - weights_[place];
        for (size_t i = 0; i < n; ++i) {
            weights_[i] += by * share[i];
            for (size_t j = 0; j < n; ++j) inverse_[i * n + j] -= share[i] * column[j];
        }
        open_[place] = false, weights_[place] = value;
    }

    std::vector<double> inverse_, weights_;
    std::vector<bool> open_;
};

// Of each colour. By Gauss and Jordan, without exchanges, as the products are positive definite.
std::vector<LeastSquares> least_squares(std::span<const double> features, std::span<const double> errors, size_t n,
                                        size_t colours) {
    const size_t width = 2 * n + colours;  // products, unit matrix, errors
    std::vector<double> table(n * width);
    for (size_t i = 0; i < n; ++i) {
        std::copy_n(&features[i * n], n, &table[i * width]);
        std::copy_n(&errors[i * colours], colours, &table[i * width + 2 * n]);
        table[i * width + i] += kRidge;
        table[i * width + n + i] = 1;
    }
    std::vector<double> row(width);
    for (size_t k = 0; k < n; ++k) {
        const double pivot = table[k * width + k];
        if (!(pivot > 0 && std::isfinite(pivot))) throw std::invalid_argument("features are no sums of products");
        for (size_t j = 0; j < width; ++j) row[j] = table[k * width + j] / pivot;
        for (size_t i = 0; i < n; ++i) {
            const double factor = table[i * width + k];
            for (size_t j = 0; j < width; ++j) table[i * width + j] -= factor * row[j];
        }
        std::copy(row.begin(), row.end(), &table[k * width]);
    }
    std::vector<LeastSquares> result;
    for (size_t c = 0; c < colours; ++c) {
        std::vector<double> inverse(n * n), weights(n);
        for (size_t i = 0; i < n; ++i) {
            std::copy_n(&table[i * width + n], n, &inverse[i * n]);
            weights[i] = table[i * width + 2 * n + c];
        }
        result.emplace_back(std::move(inverse), std::move(weights));
    }
    return result;
}

}  // namespace

std::vector<int8_t> fit_filter(std::span<const double> features, std::span<const double> errors, size_t colours,
                               double bits_per_error) {
    if (colours != 1 && colours != 3) throw std::invalid_argument("pixels have 1 or 3 colours");
    const size_t n = filter_weights(colours) / colours;
    if (features.size() != n * n || errors.size() != n * colours)
        throw std::invalid_argument("moments of " + std::to_string(colours) + " colours are (" + std::to_string(n) +
                                    ", " + std::to_string(n) + ") and (" + std::to_string(n) + ", colours)");
    const auto finite = [](double value) { return std::isfinite(value); };
    if (!std::all_of(features.begin(), features.end(), finite) || !std::all_of(errors.begin(), errors.end(), finite) ||
        std::isnan(bits_per_error))
        throw std::invalid_argument("moments must be finite");
    std::vector<int8_t> result(filter_weights(colours));
    std::vector<LeastSquares> found = least_squares(features, errors, n, colours);
    for (size_t c = 0; c < colours; ++c) {
        if (std::isfinite(bits_per_error)) found[c].prune(bits_per_error);
        found[c].round_to(&result[c * n]);
    }
    return result;
}

}  // namespace basic
