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

// The kernels that take layers by squares.
std::vector<const Dots*> dots_by_squares() {
    std::vector<const Dots*> result;
    for (const Dots* dots : available_dots())
        if (dots->read_squares != nullptr) result.push_back(dots);
    CHECK(result.back() == &dots_named("scalar"));
    return result;
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
                for (const Dots* dots : dots_by_squares()) CHECK(winograd_of(spec, channels, *dots) != nullptr);
                const int most = width == 4 ? 32767 : 500;  // which sums do not hold
                check(spec, channels, {values_of(64 * height * width, -most, most),
                                       values_of(channels[1] * height * width, 0, most)}, height, width);
            }
}

void test_many_channels() {  // more than are summed at a time
    const LayerSpec spec = layer_of({{0, 3, 3, 1, 1}}, {400}, 32, -99, 99);
    check(spec, {400}, {values_of(400 * 63, -99, 99)}, 9, 7);
}

// A layer of 3x3 weights and the values of a plane of 8x8, (channel, row, column), that it reads.
struct Case {
    size_t channels;
    LayerSpec spec;
    std::vector<float> values;

    // 32 outputs of weights and values of a channel, row and column.
    template <typename Weight, typename Value>
    static Case of(size_t channels, const Weight& weight, const Value& value) {
        Case found{channels, layer_of({{0, 3, 3, 1, 1}}, {channels}, 32, 0, 0), {}};
        std::vector<int16_t>& weights = found.spec.terms[0].weights;
        for (size_t k = 0; k < weights.size(); ++k)
            weights[k] = static_cast<int16_t>(weight(k / 9 % channels, k % 9 / 3, k % 3));
        for (size_t k = 0; k < 64 * channels; ++k)
            found.values.push_back(static_cast<float>(value(k / 64, k % 64 / 8, k % 8)));
        return found;
    }

    // Whether the sums of whole values are taken at the square of rows and columns 2 and 3; those of high parts hold.
    bool whole(const Dots& dots) const {
        const auto winograd = winograd_of(spec, {channels}, dots);
        CHECK(winograd != nullptr);
        auto plane = std::make_shared<Plane>(channels, 8, 8);
        for (size_t k = 0; k < values.size(); ++k)
            plane->data()[plane->position(k % 64 / 8, k % 8) * plane->stride() + k / 64] = static_cast<int16_t>(values[k]);
        const std::vector<uint32_t> at(dots.positions, 2 * 12 + 2);
        const std::vector<basic::PlaneView> planes = {{plane->at(0, 0), plane->stride(), plane->across()}};
        std::vector<uint32_t> numbers(at.size());
        std::iota(numbers.begin(), numbers.end(), 0);
        Winograd::Sums sums(*winograd, at.size());
        return winograd->compute(planes, at, numbers.data(), sums);
    }

    // All kernels agree on that, and give what the definition does.
    void check_whole(bool expected) const {
        for (const Dots* dots : dots_by_squares()) CHECK(whole(*dots) == expected);
        check(spec, {channels}, {values}, 8, 8);
    }
};

// Where the largest sums are 2^29, which four times would wrap, and just below it.
void test_the_largest_sums() {
    for (const int v : {1023, 1024})
        for (const int sign : {1, -1}) {
            const auto all = [&](size_t, size_t, size_t) { return v; };
            Case::of(64, [&](size_t, size_t y, size_t x) { return y + x == 4 ? 0 : 1024 * sign; }, all).check_whole(v == 1023);
            // Weights of both signs, and values that have theirs about the position (2, 2).
            const auto signs = [&](size_t y, size_t x) { return (y + x) % 2 == 0 ? sign : -sign; };
            Case::of(
                64, [&](size_t, size_t y, size_t x) { return y == 1 && x == 1 ? 0 : 1024 * signs(y, x); },
                [&](size_t, size_t y, size_t x) { return v * signs(y, x); })
                .check_whole(v == 1023);
        }
    // Reaches are rounded up: of weights that sum to 15, over channels in several pieces, sums just pass 2^29.
    const auto fifteen = [](size_t, size_t y, size_t) { return y < 2 ? 2 : 1; };
    for (const size_t channels : {4000, 4400})
        Case::of(channels, fifteen, [](size_t, size_t, size_t) { return 8191; }).check_whole(channels == 4000);
}

// Points are sums of four values, which must be int16.
void test_the_largest_values() {
    const auto small = [](size_t c, size_t y, size_t x) { return static_cast<int>((c + 3 * y + x) % 7) - 3; };
    for (const int v : {8191, -8191, 8192, -8192, 32767, -32768}) {
        Case::of(64, small, [&](size_t, size_t, size_t) { return v; }).check_whole(v == 8191 || v == -8191);
        // Once, in one channel.
        const auto once = [&](size_t c, size_t y, size_t x) { return c == 63 && y == 4 && x == 4 ? v : 5; };
        Case::of(64, small, once).check_whole(v == 8191 || v == -8191);
    }
    Case::of(64, small, [](size_t, size_t y, size_t x) { return (y + x) % 2 == 0 ? 8191 : -8191; }).check_whole(true);
}

// What is refused for a later tensor's sake leaves nothing behind of an earlier one's.
void test_late_refusals() {
    const std::vector<size_t> channels = {64, 64};
    const LayerSpec spec = layer_of({{0, 3, 3, 1, 1}, {1, 3, 3, 1, 1}}, channels, 32, -300, 300);
    check(spec, channels, {values_of(64 * 64, -50, 50), values_of(64 * 64, -32768, 32767)}, 8, 8);
}

void test_refusals() {
    const std::vector<size_t> channels = {64, 4};
    const Kernel whole{0, 3, 3, 1, 1};
    for (const Dots* dots : dots_by_squares()) {
        const auto taken = [&](const LayerSpec& spec) { return winograd_of(spec, channels, *dots) != nullptr; };
        CHECK(taken(layer_of({whole}, channels, 32, -300, 300)));
        CHECK(!taken(layer_of({whole}, channels, 32, 32767, 32767)));         // points that are no int16
        CHECK(taken(layer_of({whole}, channels, 32, 3640, 3640)));
        CHECK(!taken(layer_of({whole}, channels, 32, 3641, 3641)));
        // Low parts whose sums pass 2^29, and sums of a piece that would take megabytes.
        for (const size_t many : {5462, 5463})
            CHECK((winograd_of(layer_of({whole}, {many}, 32, 3640, 3640), {many}, *dots) != nullptr) == (many == 5462));
        for (const size_t many : {1024, 1088}) CHECK(taken(layer_of({whole}, channels, many, 1, 9)) == (many == 1024));
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

// Layers that are taken one after the other for a piece: by squares and not, with what is added to sums, and wide ones.
// A layer by squares that reads one place of the layer before it must not be among them, as it reads the others, too.
void test_groups() {
    const std::vector<size_t> channels = {48, 48, 48, 48, 48};
    std::vector<LayerSpec> layers = {layer_of({{0, 1, 1, 0, 0}}, channels, 48, -9, 9),
                                     layer_of({{0, 3, 3, 1, 1}, {1, 1, 1, 0, 0}}, channels, 48, -9, 9),
                                     layer_of({{2, 1, 1, 0, 0}}, channels, 48, -300, 300),
                                     layer_of({{3, 1, 1, 0, 0}}, channels, 48, -300, 300)};
    layers[2].skips = {{1, std::vector<int32_t>(48, 3)}, {2, std::vector<int32_t>(48, 2)}};
    layers[3].high.assign(48, 100000);
    for (const auto& [height, width] : {std::pair<size_t, size_t>{1, 1}, {7, 5}, {33, 41}}) {
        const std::vector<float> values = values_of(48 * height * width, -500, 500);
        std::vector<Tensor> tensors = {read(input_of(48), values, height, width)};
        for (const LayerSpec& spec : layers) tensors.push_back(layer(spec, tensors));
        const std::vector<float> expected(tensors.back().values.begin(), tensors.back().values.end());
        for (const Dots* dots : available_dots()) {
            CHECK((winograd_of(layers[1], channels, *dots) != nullptr) == (dots->read_squares != nullptr));
            for (const size_t threads : {1, 3}) {
                const IntegerNet net({input_of(48)}, layers, {{{{4, 0, 48}}, false}}, Workers::of(threads), *dots);
                CHECK(floats_of(net.run({FloatInput{values.data(), 48, height, width}})[0]) == expected);
            }
        }
    }
}

}  // namespace

int main() {
    test_shapes();
    test_many_channels();
    test_the_largest_sums();
    test_the_largest_values();
    test_late_refusals();
    test_refusals();
    test_groups();
}
