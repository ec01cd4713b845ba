// Tests of integer networks: every kernel and any number of threads against the definition, in sanitizer builds too.
#include "basic/integer_net.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <thread>

#include "basic/kernels.hpp"
#include "check.hpp"
#include "definition.hpp"
#include "random_nets.hpp"

namespace {

using basic::FloatInput;
using basic::floats_of;
using basic::gated_net;
using basic::InputSpec;
using basic::IntegerNet;
using basic::large_net;
using basic::layer;
using basic::LayerSpec;
using basic::Maker;
using basic::Net;
using basic::NetError;
using basic::NetInput;
using basic::OutputSpec;
using basic::PartSpec;
using basic::Plane;
using basic::random_net;
using basic::read;
using basic::strided_net;
using basic::Tensor;
using basic::TermSpec;
using basic::Workers;

std::vector<float> expected(const OutputSpec& spec, const std::vector<Tensor>& tensors) {
    std::vector<float> values;
    for (const PartSpec& part : spec.parts)
        for (size_t c = part.first; c < part.first + part.channels; ++c)
            for (size_t y = part.row; y < tensors[part.tensor].height; y += part.step)
                for (size_t x = part.column; x < tensors[part.tensor].width; x += part.step)
                    values.push_back(spec.scale * static_cast<float>(tensors[part.tensor].padded(
                                                      c, static_cast<int64_t>(y), static_cast<int64_t>(x))));
    return values;
}

void test_against_definition(Net (*random)(Maker&), unsigned nets = 25) {
    for (unsigned seed = 0; seed < nets; ++seed) {
        Maker make(seed);
        const Net net = random(make);
        const size_t rows = make.size(1, 9), columns = make.size(1, 30);
        std::vector<std::vector<float>> given;
        std::vector<NetInput> inputs;
        std::vector<Tensor> tensors;
        for (const InputSpec& spec : net.inputs) {
            const size_t height = rows * spec.rate, width = columns * spec.rate;
            given.push_back(make.values(spec.channels * height * width));
            inputs.push_back(FloatInput{given.back().data(), spec.channels, height, width});
            tensors.push_back(read(spec, given.back(), height, width));
        }
        for (const LayerSpec& spec : net.layers) tensors.push_back(layer(spec, tensors));
        for (const basic::Dots* dots : basic::available_dots())
            for (const size_t threads : {1, 3}) {
                const IntegerNet made(net.inputs, net.layers, net.outputs, Workers::of(threads), *dots);
                const auto found = made.run(inputs);
                CHECK(found.size() == net.outputs.size());
                for (size_t k = 0; k < found.size(); ++k)
                    CHECK(floats_of(found[k]) == expected(net.outputs[k], tensors));
            }
    }
}

// What one network wrote, another reads: with zeros around it, whatever its channels.
void test_planes_go_on() {
    for (const size_t channels : {3, 16}) {
        Maker make(7);
        Net one, two;
        one.inputs = {make.input(2, one)};
        one.layers = {make.layer({0}, channels, 1, one)};
        two.inputs = {{channels, std::vector<float>(channels, 1), std::vector<float>(channels, -32768),
                       std::vector<float>(channels, 32767)}};
        two.channels = {channels};
        two.layers = {make.layer({0, 0}, 5, 1, two)};
        const auto values = make.values(2 * 4 * 6);
        const OutputSpec plane{{{1, 0, channels}}, true}, last{{{1, 0, 5}}, false};
        const IntegerNet first(one.inputs, one.layers, {plane}, Workers::of(1));
        const IntegerNet second(two.inputs, two.layers, {last}, Workers::of(2));
        const auto between = first.run({FloatInput{values.data(), 2, 4, 6}});
        const auto as_floats = floats_of(between[0]);
        const auto found = second.run({std::get<std::shared_ptr<const Plane>>(between[0])});
        CHECK(floats_of(found[0]) == floats_of(second.run({FloatInput{as_floats.data(), channels, 4, 6}})[0]));
        const std::vector<int16_t> integers(as_floats.begin(), as_floats.end());
        const basic::ArrayInput<int16_t> array{integers.data(), channels, 4, 6};
        CHECK(floats_of(second.run({array})[0]) == floats_of(found[0]));
        const auto& whole = *std::get<std::shared_ptr<const Plane>>(between[0]);
        const basic::PartInput part{whole.data() + whole.position(0, 0) * whole.stride(), channels, 4, 6,
                                    static_cast<std::ptrdiff_t>(10 * whole.stride()),
                                    static_cast<std::ptrdiff_t>(whole.stride())};
        CHECK(floats_of(second.run({part})[0]) == floats_of(found[0]));
        std::vector<Tensor> tensors = {read(two.inputs[0], as_floats, 4, 6)};
        tensors.push_back(layer(two.layers[0], tensors));
        CHECK(floats_of(found[0]) == expected(last, tensors));
    }
}

// However int16 values come, they are scaled and bounded: also a plane, and one position, whose order says nothing.
void test_all_inputs_are_read_alike() {
    for (const size_t side : {1, 3}) {
        Maker make(11);
        Net plain, net;
        const std::vector<float> ones(6, 1), least(6, -32768), most(6, 32767);
        plain.inputs = {{6, ones, least, most}};
        net.inputs = {make.input(6, net)};
        std::vector<int16_t> values(6 * side * side), by_position(values.size());
        for (int16_t& value : values) value = static_cast<int16_t>(make.number(-32768, 32767));
        for (size_t k = 0; k < values.size(); ++k)
            by_position[k % (side * side) * 6 + k / (side * side)] = values[k];
        const auto across = static_cast<std::ptrdiff_t>(6 * side);
        const basic::PartInput part{by_position.data(), 6, side, side, across, 6};
        const IntegerNet keeps(plain.inputs, {}, {{{{0, 0, 6}}, true}}, Workers::of(1));
        const IntegerNet reads(net.inputs, {}, {{{{0, 0, 6}}, true}}, Workers::of(1));
        const auto plane = std::get<std::shared_ptr<const Plane>>(keeps.run({part})[0]);
        const std::vector<float> floats(values.begin(), values.end());
        const auto wanted = floats_of(reads.run({FloatInput{floats.data(), 6, side, side}})[0]);
        CHECK(wanted != floats);
        CHECK(floats_of(reads.run({basic::ArrayInput<int16_t>{values.data(), 6, side, side}})[0]) == wanted);
        CHECK(floats_of(reads.run({part})[0]) == wanted);
        CHECK(floats_of(reads.run({plane})[0]) == wanted);
    }
}

// A tensor in four phases, each in two parts of some channels, of odd sizes, by words and what is left of them.
void test_parts_are_the_whole() {
    constexpr size_t kChannels = 10, kHeight = 5, kStep = 2;
    for (const size_t width : {2, 7, 16, 35}) {
        Maker make(static_cast<unsigned>(width));
        Net net;
        const IntegerNet reads({make.input(kChannels, net)}, {}, {{{{0, 0, kChannels}}, false}}, Workers::of(2));
        std::vector<float> whole(kChannels * kHeight * width);
        for (float& value : whole) value = static_cast<float>(make.number(-3000, 3000));
        std::vector<std::vector<float>> floats;
        std::vector<std::vector<int16_t>> integers;
        std::vector<basic::PhasesInput::Phase> phases;
        for (size_t phase = 0; phase < 2 * kStep * kStep; ++phase) {
            const size_t row = phase / 2 % kStep, column = phase / 2 / kStep, first = phase % 2 * 6;
            const size_t count = first == 0 ? 6 : kChannels - 6;
            std::vector<float> part;
            for (size_t c = first; c < first + count; ++c)
                for (size_t y = row; y < kHeight; y += kStep)
                    for (size_t x = column; x < width; x += kStep) part.push_back(whole[(c * kHeight + y) * width + x]);
            const size_t rows = (kHeight + 1 - row) / kStep, columns = (width + 1 - column) / kStep;
            floats.push_back(part), integers.emplace_back(part.begin(), part.end());
            if (phase % 3 == 0)
                phases.push_back({FloatInput{floats.back().data(), count, rows, columns}, first, row, column});
            else
                phases.push_back({basic::ArrayInput<int16_t>{integers.back().data(), count, rows, columns}, first, row, column});
        }
        const auto found = reads.run({basic::PhasesInput(phases, kStep, 0.5f)});
        for (float& value : whole) value *= 0.5f;
        CHECK(floats_of(found[0]) == floats_of(reads.run({FloatInput{whole.data(), kChannels, kHeight, width}})[0]));
    }
}

void test_extremes() {
    // Values that float32 has and integers have not, and sums that wrap: the same on every kernel.
    const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
    const std::vector<float> values = {inf, -inf, nan, 1e30f, -1e30f, 0.5f, -0.5f, 32767};
    const std::vector<float> ones(2, 1), low(2, -32768), high(2, 32767);
    LayerSpec spec{{{0, 1, 1, 0, 0, {32767, 32767, -32768, -32768}}}, {0, 0}, {0, 31}, {-32768, -32768},
                   {32767, 32767}, true, 1};
    std::vector<float> first;
    for (const basic::Dots* dots : basic::available_dots()) {
        const IntegerNet net({{2, ones, low, high}}, {spec}, {{{{1, 0, 2}}, false}, {{{0, 0, 2}}, false}},
                             Workers::of(1), *dots);
        const auto found = net.run({FloatInput{values.data(), 2, 1, 4}});
        CHECK((floats_of(found[1]) == std::vector<float>{32767, -32768, -32768, 32767, -32768, 1, 0, 32767}));
        if (first.empty()) first = floats_of(found[0]);
        CHECK(floats_of(found[0]) == first);
    }
    std::vector<float> many(4 * 16);  // enough for words of four channels
    for (size_t k = 0; k < many.size(); ++k) many[k] = values[k * 5 % values.size()];
    const InputSpec bounded{4, {1, 1, 1, 1}, {-32768, -9, 0, -32768}, {32767, 9, 100, 32767}};
    const IntegerNet reads({bounded}, {}, {{{{0, 0, 4}}, false}}, Workers::of(1));
    const Tensor wanted = read(bounded, many, 1, 16);
    CHECK(floats_of(reads.run({FloatInput{many.data(), 4, 1, 16}})[0]) ==
          std::vector<float>(wanted.values.begin(), wanted.values.end()));
}

void test_refusals() {
    const auto make = [](auto&& change) {
        std::vector<InputSpec> inputs = {{1, {1}, {-9}, {9}}};
        std::vector<LayerSpec> layers = {{{{0, 1, 1, 0, 0, {1}}}, {0}, {0}, {-9}, {9}, false, 1}};
        std::vector<OutputSpec> outputs = {{{{1, 0, 1}}, true}};
        change(inputs, layers, outputs);
        return std::make_unique<IntegerNet>(inputs, layers, outputs, Workers::of(1));
    };
    using Inputs = std::vector<InputSpec>&;
    using Layers = std::vector<LayerSpec>&;
    using Outputs = std::vector<OutputSpec>&;
    const auto net = make([](Inputs, Layers, Outputs) {});
    const float value = 1;
    CHECK(floats_of(net->run({FloatInput{&value, 1, 1, 1}})[0]) == std::vector<float>{1});
    CHECK_THROWS(net->run({}), NetError);
    // More positions than can be counted; nothing is read or allocated.
    CHECK_THROWS(net->run({FloatInput{&value, 1, 1 << 17, 1 << 17}}), NetError);
    CHECK_THROWS(net->run({FloatInput{&value, 2, 1, 1}}), NetError);
    CHECK_THROWS(net->run({FloatInput{&value, 1, 0, 1}}), NetError);
    CHECK_THROWS(make([](Inputs i, Layers, Outputs) { i.clear(); }), NetError);
    CHECK_THROWS(make([](Inputs i, Layers, Outputs) { i[0].scale.clear(); }), NetError);
    CHECK_THROWS(make([](Inputs i, Layers, Outputs) { i[0].high = {40000}; }), NetError);
    CHECK_THROWS(make([](Inputs i, Layers, Outputs) { i[0].low = {std::nanf("")}; }), NetError);
    CHECK_THROWS(make([](Inputs, Layers l, Outputs) { l[0].terms.clear(); }), NetError);
    CHECK_THROWS(make([](Inputs, Layers l, Outputs) { l[0].terms[0].source = 1; }), NetError);
    CHECK_THROWS(make([](Inputs, Layers l, Outputs) { l[0].terms[0].weights.push_back(1); }), NetError);
    CHECK_THROWS(make([](Inputs, Layers l, Outputs) { l[0].terms[0].above = 1; }), NetError);
    CHECK_THROWS(make([](Inputs, Layers l, Outputs) { l[0].terms[0] = {0, 6, 1, 3, 0, {1, 1, 1, 1, 1, 1}}; }), NetError);
    CHECK_THROWS(make([](Inputs, Layers l, Outputs) { l[0].shift = {32}; }), NetError);
    CHECK_THROWS(make([](Inputs, Layers l, Outputs) { l[0].low = {10}; }), NetError);
    CHECK_THROWS(make([](Inputs, Layers l, Outputs) { l[0].high = {32768}; }), NetError);  // a plane of it
    CHECK_THROWS(make([](Inputs, Layers l, Outputs) {
                     l[0].high = {32768};
                     l.push_back({{{1, 1, 1, 0, 0, {1}}}, {0}, {0}, {-9}, {9}, false, 1});
                 }),
                 NetError);
    CHECK_THROWS(make([](Inputs, Layers l, Outputs) { l[0].shuffle = 2; }), NetError);
    CHECK_THROWS(make([](Inputs, Layers l, Outputs) { l[0].bias.clear(); }), NetError);
    CHECK_THROWS(make([](Inputs i, Layers, Outputs) { i[0].rate = 0; }), NetError);
    CHECK_THROWS(make([](Inputs, Layers l, Outputs) { l[0].terms[0].stride = 2; }), NetError);
    CHECK_THROWS(make([](Inputs, Layers l, Outputs) { l[0].terms[0].stride = 0; }), NetError);
    CHECK_THROWS(make([](Inputs, Layers l, Outputs) { l[0].skips = {{1, {0}}}; }), NetError);
    CHECK_THROWS(make([](Inputs, Layers l, Outputs) { l[0].skips = {{0, {32}}}; }), NetError);
    CHECK_THROWS(make([](Inputs, Layers l, Outputs) { l[0].skips = {{0, {}}}; }), NetError);
    CHECK_THROWS(make([](Inputs, Layers l, Outputs) { l[0].gate = 1; }), NetError);
    CHECK_THROWS(make([](Inputs, Layers l, Outputs) { l[0].gate = 0, l[0].high = {40000}; }), NetError);
    CHECK_THROWS(make([](Inputs i, Layers l, Outputs) { i.push_back({1, {1}, {-9}, {9}, 2}), l[0].gate = 1; }), NetError);
    const auto two = make([](Inputs i, Layers l, Outputs) { i[0].rate = 2, l[0].terms[0].stride = 2; });
    CHECK_THROWS(two->run({FloatInput{&value, 1, 1, 1}}), NetError);
    CHECK_THROWS(make([](Inputs, Layers, Outputs o) { o[0].parts[0].tensor = 2; }), NetError);
    CHECK_THROWS(make([](Inputs, Layers, Outputs o) { o[0].parts[0].first = 1; }), NetError);
    CHECK_THROWS(make([](Inputs, Layers, Outputs o) { o[0].parts[0].row = 1; }), NetError);
    CHECK_THROWS(make([](Inputs, Layers, Outputs o) { o[0].parts.clear(); }), NetError);
    CHECK_THROWS(make([](Inputs, Layers, Outputs o) { o[0].parts.push_back({1, 0, 1, 2, 0, 0}); }), NetError);
    // Of one row, the phases of a step of two are one row and none.
    const auto uneven = make([](Inputs, Layers, Outputs o) { o[0].parts = {{1, 0, 1, 2, 0, 0}, {1, 0, 1, 2, 1, 0}}; });
    CHECK_THROWS(uneven->run({FloatInput{&value, 1, 1, 1}}), NetError);
    CHECK_THROWS(basic::dots_named("sse9"), basic::KernelError);
}

void test_workers() {
    for (const size_t threads : {1, 2, 5}) {
        Workers& group = Workers::of(threads);
        CHECK(&group == &Workers::of(threads) && group.threads() == threads);
        for (const size_t count : {0, 1, 2, 1000, 200001, (1 << 21) - 1, 1 << 21})  // some at a time from 2^21 on
            for (int round = 0; round < (count > 1000 ? 1 : 20); ++round) {
                std::vector<std::atomic<int>> done(count);
                group.each(count, [&](size_t k) { ++done[k]; });
                CHECK(std::all_of(done.begin(), done.end(), [](const auto& times) { return times == 1; }));
            }
    }
    CHECK_THROWS(Workers::of(0), std::invalid_argument);
    CHECK_THROWS(Workers::of(Workers::kMaxThreads + 1), std::invalid_argument);
    // Several callers at a time, one of which calls again from its work.
    Workers& group = Workers::of(3);
    std::atomic<size_t> sum{0};
    std::vector<std::thread> callers;
    for (int k = 0; k < 4; ++k)
        callers.emplace_back([&] {
            for (int round = 0; round < 50; ++round)
                group.each(10, [&](size_t number) { group.each(2, [&](size_t inner) { sum += number * inner; }); });
        });
    for (std::thread& caller : callers) caller.join();
    CHECK(sum == 4 * 50 * 45);
    // Threads that fell asleep are woken.
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    group.each(100, [&](size_t) { ++sum; });
    CHECK(sum == 4 * 50 * 45 + 100);
    // What a piece throws comes out once all have ended.
    sum = 0;
    const auto failing = [&](size_t k) {
        ++sum;
        if (k % 7 == 3) throw NetError("a piece");
    };
    CHECK_THROWS(group.each(20, failing), NetError);
    CHECK(sum == 20);
    CHECK_THROWS(Workers::of(1).each(20, failing), NetError);
}

}  // namespace

int main() {
    test_against_definition(random_net);
    test_against_definition(strided_net);
    test_against_definition(gated_net);
    test_against_definition(large_net, 8);
    test_planes_go_on();
    test_all_inputs_are_read_alike();
    test_parts_are_the_whole();
    test_extremes();
    test_refusals();
    test_workers();
}
