// Speed of the coder alone: symbols of a Gaussian at log-spaced scales, whole stages, median and best of
// rounds.
// Then a 768x512 photo's latent (1536 x 256 symbols) decoded in 8 stages, milliseconds in all, with the
// caches swept before each stage as by a network and without.
//   coder_bench [symbols] [rounds]
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <random>
#include <vector>

#include "basic/coder.hpp"

namespace {

constexpr int kScales = 64;

double scale_of(int row) { return std::exp(std::log(0.11) + row * std::log(256 / 0.11) / (kScales - 1)); }

double mass(double scale, int symbol) {
    const double root = scale * std::sqrt(2.0);
    return 0.5 * (std::erfc((std::abs(symbol) - 0.5) / root) - std::erfc((std::abs(symbol) + 0.5) / root));
}

double entropy(double scale) {
    double bits = 0;
    for (int s = 0; s <= 8 * scale + 1; ++s)
        if (const double p = mass(scale, s); p > 0) bits -= (s == 0 ? 1 : 2) * p * std::log2(p);
    return bits;
}

// Plain tables for timing (basic_runtime.tables makes the good ones): +-3.2 scales, rounded frequencies.
std::shared_ptr<const basic::Tables> make_tables() {
    std::vector<uint16_t> freqs, sizes;
    std::vector<int32_t> offsets;
    std::vector<uint8_t> shifts;
    for (int row = 0; row < kScales; ++row) {
        int shift = 0;
        while (scale_of(row) / (1 << shift) > 22) ++shift;
        const double scale = scale_of(row) / (1 << shift);
        const int reach = std::max(1, static_cast<int>(std::ceil(3.2 * scale)));
        uint32_t total = 0;
        for (int s = -reach; s <= reach; ++s) {
            freqs.push_back(static_cast<uint16_t>(std::max(1.0, std::floor(mass(scale, s) * 4000))));
            total += freqs.back();
        }
        freqs.push_back(1);
        freqs[freqs.size() - 2 - static_cast<size_t>(reach)] += static_cast<uint16_t>(4095 - total);
        sizes.push_back(static_cast<uint16_t>(2 * reach + 2));
        offsets.push_back(-reach);
        shifts.push_back(static_cast<uint8_t>(shift));
    }
    return std::make_shared<const basic::Tables>(freqs, sizes, offsets, shifts);
}

// P(row) ~ exp(-a row), with a such that the mean entropy is the wanted one.
std::vector<double> row_weights(double bits) {
    double low = -1, high = 5;
    std::vector<double> weights(kScales);
    for (int step = 0; step < 60; ++step) {
        const double a = (low + high) / 2;
        double sum = 0, mean = 0;
        for (int row = 0; row < kScales; ++row) {
            weights[row] = std::exp(-a * row);
            sum += weights[row];
            mean += weights[row] * entropy(scale_of(row));
        }
        (mean / sum > bits ? low : high) = a;
    }
    return weights;
}

struct Timer {
    std::vector<double> seconds;
    template <typename F>
    void run(F f) {
        const auto begin = std::chrono::steady_clock::now();
        f();
        seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    }
    void print(const char* name, size_t count) {
        std::sort(seconds.begin(), seconds.end());
        std::printf("  %s %7.1f (%7.1f)", name, count / seconds[seconds.size() / 2] / 1e6,
                    count / seconds[0] / 1e6);
    }
};

struct Workload {
    std::vector<uint8_t> indexes;
    std::vector<int16_t> symbols;

    Workload(double bits, size_t count) : indexes(count), symbols(count) {
        std::mt19937 random(1);
        const auto weights = row_weights(bits);
        std::discrete_distribution<int> rows(weights.begin(), weights.end());
        std::normal_distribution<double> normal;
        for (size_t i = 0; i < count; ++i) {
            indexes[i] = static_cast<uint8_t>(rows(random));
            symbols[i] = static_cast<int16_t>(std::lround(normal(random) * scale_of(indexes[i])));
        }
    }
};

void time_photo(const std::shared_ptr<const basic::Tables>& tables, const basic::Kernels& kernels,
                double bits, int rounds) {
    constexpr size_t kStages = 8, kStage = 1536 * 256 / kStages;
    const Workload work(bits, kStages * kStage);
    basic::Encoder encoder(tables, kernels);
    for (size_t k = 0; k < kStages; ++k)
        encoder.put(std::span(work.symbols).subspan(k * kStage, kStage),
                    std::span(work.indexes).subspan(k * kStage, kStage));
    const auto bytes = encoder.finish();
    std::vector<int16_t> out(kStage);
    std::vector<uint8_t> indexes(kStage);
    std::vector<char> sweep(size_t{64} << 20);
    for (const bool cold : {false, true}) {
        std::vector<double> totals;
        for (int round = 0; round < rounds; ++round) {
            basic::Decoder decoder(tables, bytes, kernels);
            Timer stages;
            for (size_t k = 0; k < kStages; ++k) {
                if (cold)
                    for (size_t i = 0; i < sweep.size(); i += 64) ++sweep[i];
                // In a decoder the indexes were written just before.
                std::copy_n(work.indexes.begin() + static_cast<long>(k * kStage), kStage, indexes.begin());
                stages.run([&] { decoder.get(indexes, std::span<int16_t>(out)); });
            }
            totals.push_back(1e3 * std::accumulate(stages.seconds.begin(), stages.seconds.end(), 0.0));
        }
        std::sort(totals.begin(), totals.end());
        std::printf("photo W%.1f %-6s lanes %2d %s %.3f ms (%.3f)\n", bits, kernels.name,
                    basic::Decoder(tables, bytes).lanes(), cold ? "cold" : "warm", totals[totals.size() / 2],
                    totals[0]);
    }
}

}  // namespace

int main(int argc, char** argv) {
    const size_t count = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 2000000;
    const int rounds = argc > 2 ? std::atoi(argv[2]) : 21;
    const auto tables = make_tables();
    std::printf("%zu symbols, int16, Msym/s median (best)\n", count);
    for (const double bits : {0.2, 1.0, 3.0}) {
        const Workload work(bits, count);
        const auto& [indexes, symbols] = work;
        std::vector<int16_t> decoded(count);
        for (const basic::Kernels* kernels : basic::available_kernels())
            for (const int lanes : {1, 8, 16, 32, 64}) {
                basic::Encoder encoder(tables, *kernels);
                std::vector<uint8_t> bytes;
                Timer put, finish, get;
                for (int round = 0; round < rounds; ++round) {
                    put.run([&] { encoder.put(std::span<const int16_t>(symbols), indexes); });
                    finish.run([&] { bytes = encoder.finish(lanes); });
                    get.run([&] {
                        basic::Decoder decoder(tables, bytes, *kernels);
                        decoder.get(indexes, std::span<int16_t>(decoded));
                        decoder.finish();
                    });
                }
                if (decoded != symbols) return 1;
                Timer encode = finish;
                for (size_t i = 0; i < put.seconds.size(); ++i) encode.seconds[i] += put.seconds[i];
                std::printf("W%.1f %-6s lanes %2d", bits, kernels->name, lanes);
                encode.print("encode", count);
                put.print("[put", count);
                finish.print("finish", count);
                get.print("] decode", count);
                std::printf("  %zu bytes\n", bytes.size());
            }
    }
    for (const double bits : {0.2, 1.0})
        for (const basic::Kernels* kernels : basic::available_kernels())
            time_photo(tables, *kernels, bits, rounds);
}
