// Layers by the points of squares against their definition, up to where the numbers pass their types and beyond.
#include "winograd.hpp"

#include <numeric>
#include <random>

#include "check.hpp"
#include "definition.hpp"
#include "net_plan.hpp"

namespace {

using namespace basic;

std::mt19937 random_numbers(5);

int number(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_numbers); }

struct Kernel {
    size_t source, height, width, above, before;
};

LayerSpec layer_of(const std::vector<Kernel>& kernels, const std::vector<size_t>& channels, size_t outputs, int least,
                   int most) {
    LayerSpec spec;
    for (const Kernel& kernel : kernels) {
        TermSpec term{kernel.source, kernel.height, kernel.width, kernel.above, kernel.before, {}};
        term.weights.resize(outputs * channels[kernel.source] * kernel.height * kernel.width);
        for (int16_t& weight : term.weights) weight = static_cast<int16_t>(number(least, most));
        spec.terms.push_back(term);
    }
    for (size_t k = 0; k < outputs; ++k) {
        spec.bias.push_back(number(-100000, 100000));
        spec.shift.push_back(number(6, 12));
    }
    spec.low.assign(outputs, -32768), spec.high.assign(outputs, 32767);
    return spec;
}

InputSpec input_of(size_t channels) {
    const std::vector<float> least(channels, -32768), most(channels, 32767);
    return {channels, std::vector<float>(channels, 1), least, most};
}

std::unique_ptr<const Winograd> winograd_of(const LayerSpec& spec, const std::vector<size_t>& channels,
                                            const Dots& dots) {
    return NetLayer(spec, channels, 1, dots).winograd;
}

// A network of the layer on every kernel against the definition.
void check(const LayerSpec& spec, const std::vector<size_t>& channels, const std::vector<std::vector<float>>& values,
           size_t height, size_t width) {
    std::vector<InputSpec> inputs;
    std::vector<NetInput> given;
    std::vector<Tensor> tensors;
    for (size_t k = 0; k < channels.size(); ++k) {
        inputs.push_back(input_of(channels[k]));
        given.push_back(FloatInput{values[k].data(), channels[k], height, width});
        tensors.push_back(read(inputs[k], values[k], height, width));
    }
    const size_t outputs = spec.bias.size() / (spec.shuffle * spec.shuffle);
    const Tensor found = layer(spec, tensors);
    const std::vector<float> expected(found.values.begin(), found.values.end());
    for (const Dots* dots : available_dots())
        for (const size_t threads : {1, 2}) {
            const IntegerNet net(inputs, {spec}, {{{{channels.size(), 0, outputs}}, true}}, Workers::of(threads), *dots);
            CHECK(floats_of(net.run(given)[0]) == expected);
        }
}

std::vector<float> values_of(size_t count, int least, int most) {
    std::vector<float> values(count);
    for (float& value : values) value = static_cast<float>(number(least, most));
    return values;
}

void test_shapes() {
    const Kernel whole{0, 3, 3, 1, 1};
    const std::vector<std::vector<Kernel>> shapes = {
        {whole},
        {{0, 2, 3, 1, 1}, {1, 3, 2, 1, 0}, {1, 3, 3, 1, 1}},
        {{0, 2, 2, 0, 0}, {1, 2, 2, 1, 1}, {1, 3, 3, 1, 1}, {0, 3, 3, 1, 1}},
        {whole, whole},            // the same tensor, twice
        {whole, {1, 1, 1, 0, 0}},  // and one that has a place alone
    };
    for (const auto& kernels : shapes)
        for (const size_t outputs : {48, 68})
            for (const auto& [height, width] : {std::pair<size_t, size_t>{1, 1}, {2, 9}, {5, 4}, {7, 31}}) {
                const std::vector<size_t> channels = {64, outputs == 48 ? size_t{210} : size_t{35}};
                LayerSpec spec = layer_of(kernels, channels, outputs, -300, 300);
                spec.leak = width % 2 == 1, spec.shuffle = width == 9 ? 2 : 1;
                for (const Dots* dots : available_dots()) CHECK(winograd_of(spec, channels, *dots) != nullptr);
                const int most = width == 4 ? 32767 : 500;  // which sums do not hold
                check(spec, channels, {values_of(64 * height * width, -most, most),
                                       values_of(channels[1] * height * width, 0, most)}, height, width);
            }
}

// Wherever its sums are taken, they are right: values and weights of one sign, of both, and weights so small that points are
// what passes its type first.
void test_up_to_the_largest_sums() {
    const std::vector<size_t> channels = {64};
    for (const Dots* dots : available_dots())
        for (const auto& [least, largest] : {std::pair{500, 1000}, {-2000, 1000}, {-3, 3}}) {
            LayerSpec spec = layer_of({{0, 3, 3, 1, 1}}, channels, 32, least, largest);
            spec.shift.assign(32, largest == 3 ? 4 : 14);
            size_t taken = 0, refused = 0;
            const auto winograd = winograd_of(spec, channels, *dots);
            for (int most = 16; most < 32768; most += most / 3) {
                auto plane = std::make_shared<Plane>(64, 6, 6);
                std::vector<float> values(64 * 36);
                for (size_t c = 0; c < 64; ++c)
                    for (size_t p = 0; p < 36; ++p) {
                        const int value = least != 500 && number(0, 7) == 1 ? -most : most;
                        values[c * 36 + p] = static_cast<float>(value);
                        plane->data()[plane->position(p / 6, p % 6) * plane->stride() + c] = static_cast<int16_t>(value);
                    }
                std::vector<uint32_t> at;
                for (uint32_t k = 0; k < 9; ++k) at.push_back(k / 3 * 2 * 10 + k % 3 * 2);
                while (at.size() % dots->positions != 0) at.push_back(at.back());
                const std::vector<std::shared_ptr<const Plane>> planes = {plane};
                std::vector<uint32_t> numbers(at.size());
                std::iota(numbers.begin(), numbers.end(), 0);
                const Winograd::Sums sums(*winograd, at.size());
                const bool holds = winograd->add(planes, at, ValuePart::whole, numbers.data(), sums);
                CHECK(winograd->add(planes, at, ValuePart::high, numbers.data(), sums));
                ++(holds ? taken : refused);
                if (largest == 3) CHECK(holds == (most <= 8191));
                check(spec, channels, {values}, 6, 6);
            }
            CHECK(taken > 5 && refused > 2);
        }
}

void test_refusals() {
    const std::vector<size_t> channels = {64, 4};
    const Kernel whole{0, 3, 3, 1, 1};
    for (const Dots* dots : available_dots()) {
        const auto taken = [&](const LayerSpec& spec) { return winograd_of(spec, channels, *dots) != nullptr; };
        CHECK(taken(layer_of({whole}, channels, 32, -300, 300)));
        CHECK(!taken(layer_of({whole}, channels, 32, 32767, 32767)));         // points that are no int16
        CHECK(taken(layer_of({whole}, channels, 32, 3640, 3640)));
        CHECK(!taken(layer_of({whole}, channels, 32, 3641, 3641)));
        CHECK(!taken(layer_of({{0, 1, 1, 0, 0}}, channels, 32, 1, 9)));       // nothing to save
        CHECK(!taken(layer_of({{0, 3, 3, 2, 1}}, channels, 32, 1, 9)));       // beyond the square
        CHECK(!taken(layer_of({{0, 5, 5, 2, 2}}, channels, 32, 1, 9)));
        LayerSpec strided = layer_of({{0, 2, 2, 0, 0}}, channels, 32, 1, 9);
        strided.terms[0].stride = 2;
        CHECK(!taken(strided));
        LayerSpec skips = layer_of({whole}, channels, 64, 1, 9);
        skips.skips = {{0, std::vector<int32_t>(64)}};
        CHECK(!taken(skips));
        LayerSpec wide = layer_of({whole}, channels, 32, 1, 9);
        wide.high[0] = 40000;
        CHECK(!taken(wide));
        // Fewer channels than a vector of values.
        CHECK(dots->values <= 4 || !taken(layer_of({whole, {1, 3, 3, 1, 1}}, channels, 32, 1, 9)));
    }
}

}  // namespace

int main() {
    test_shapes();
    test_up_to_the_largest_sums();
    test_refusals();
}
