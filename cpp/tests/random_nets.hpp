// Random networks to test with.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "basic/integer_net.hpp"
#include "check.hpp"
#include "net_plan.hpp"

namespace basic {

struct Net {
    std::vector<InputSpec> inputs;
    std::vector<LayerSpec> layers;
    std::vector<OutputSpec> outputs;
    std::vector<size_t> channels;
};

class Maker {
  public:
    explicit Maker(unsigned seed) : random_(seed) {}

    int number(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }
    size_t size(int low, int high) { return static_cast<size_t>(number(low, high)); }

    InputSpec input(size_t channels, Net& net) {
        InputSpec spec{channels, std::vector<float>(channels), {}, {}};
        for (size_t c = 0; c < channels; ++c) {
            spec.scale[c] = std::ldexp(1.0f, -number(0, 3));
            spec.low.push_back(static_cast<float>(-number(0, 2000)));
            spec.high.push_back(static_cast<float>(number(0, 2000)));
        }
        net.channels.push_back(channels);
        return spec;
    }

    // Places of a kernel of a length that lie before the position itself, so that it reaches no further than two.
    size_t before(size_t length) {
        return size(std::max(0, static_cast<int>(length) - 3), std::min(2, static_cast<int>(length) - 1));
    }

    TermSpec term(size_t source, size_t outputs, const Net& net, int largest) {
        TermSpec spec{source, size(1, 5), size(1, 5), 0, 0, {}};
        spec.above = before(spec.height), spec.before = before(spec.width);
        const size_t places = spec.height * spec.width, empty = size(0, static_cast<int>(places));
        spec.weights.resize(outputs * net.channels[source] * places);
        for (size_t k = 0; k < spec.weights.size(); ++k)
            spec.weights[k] = k % places == empty ? int16_t{0} : static_cast<int16_t>(number(-largest, largest));
        return spec;
    }

    LayerSpec layer(const std::vector<size_t>& sources, size_t outputs, size_t shuffle, Net& net, int largest = 300) {
        LayerSpec spec;
        for (const size_t source : sources) spec.terms.push_back(term(source, outputs, net, largest));
        for (size_t k = 0; k < outputs; ++k) {
            spec.bias.push_back(number(0, 9) == 0 ? number(INT32_MIN, INT32_MAX) : number(-100000, 100000));
            spec.shift.push_back(number(0, 12));
            spec.low.push_back(number(-3000, 0));
            spec.high.push_back(number(0, 3000));
        }
        spec.leak = number(0, 1) == 1;
        spec.shuffle = shuffle;
        net.channels.push_back(outputs / (shuffle * shuffle));
        return spec;
    }

    // A tensor of as many channels that is added to the sums of a layer.
    void skip(size_t source, LayerSpec& spec) {
        SkipSpec found{source, {}};
        for (size_t k = 0; k < spec.bias.size(); ++k) found.shift.push_back(number(0, 31));
        spec.skips.push_back(found);
    }

    std::vector<float> values(size_t count) {
        std::vector<float> result(count);
        for (float& value : result) value = static_cast<float>(number(-40000, 40000)) / 8;
        return result;
    }

  private:
    std::mt19937 random_;
};

// Two inputs, a chain of layers that read both and each other, and a pixel shuffle at the end.
inline Net random_net(Maker& make) {
    Net net;
    const size_t many = make.number(0, 4) == 0 ? make.size(385, 400) : make.size(1, 210);  // more than are summed at a time
    net.inputs = {make.input(make.size(1, 40), net), make.input(many, net)};
    net.layers.push_back(make.layer({0, 1}, make.size(1, 70), 1, net));
    net.layers.push_back(make.layer({2, 0}, make.size(1, 20), 1, net));
    net.layers.push_back(make.layer({3}, make.size(1, 90), 1, net, 32767));
    const size_t side = make.size(1, 3);
    const size_t each = make.number(0, 1) == 0 ? 16 * make.size(1, 3) : make.size(1, 9);  // of which blocks are, and not
    net.layers.push_back(make.layer({4, 2}, each * side * side, side, net));
    const size_t channels = net.channels[5], first = make.size(0, static_cast<int>(channels) - 1);
    const size_t step = make.size(1, 3), row = make.size(0, static_cast<int>(step) - 1);
    net.layers.push_back(make.layer({4, 1}, make.size(1, 40), 1, net));  // the results of which need not fit int16
    for (int32_t& bound : net.layers.back().high) bound += 1000 * make.number(0, 100);
    const PartSpec part{5, first, channels - first, step, row, step - 1}, again{5, 0, 1, step, row, step - 1};
    net.outputs = {{{{5, 0, channels}}, true},        {{part}, true},         {{part}, false},
                   {{{2, 0, net.channels[2]}}, false}, {{part, again}, true}, {{again, part}, false},
                   {{{6, 0, net.channels[6], step, row, step - 1}, {6, 0, 1, step, row, step - 1}}, false, 0.25f}};
    return net;
}

// Inputs of four and of one row each, strides from one to the other, a shuffle back, and sums that tensors are added to.
inline Net strided_net(Maker& make) {
    Net net;
    net.inputs = {make.input(make.size(1, 50), net), make.input(make.size(1, 20), net)};
    net.inputs[0].rate = 4;
    const size_t channels = make.size(1, 40);
    const auto add = [&](size_t source, size_t stride, size_t outputs, size_t shuffle) {
        net.layers.push_back(make.layer({source}, outputs, shuffle, net));
        TermSpec& term = net.layers.back().terms[0];
        term.stride = stride;
        if (stride == 1 || make.number(0, 1) == 0) return;
        term.height = term.width = stride, term.above = term.before = 0;  // patches side by side
        term.weights.assign(outputs * net.channels[source] * stride * stride, 0);
        for (int16_t& weight : term.weights) weight = static_cast<int16_t>(make.number(-300, 300));
    };
    add(0, 2, channels, 1);
    add(0, 4, channels, 1);                                            // 3: one row each
    add(2, 2, channels, 1);                                            // 4, too
    net.layers.push_back(make.layer({4, 1}, channels, 1, net));        // 5
    make.skip(3, net.layers.back());
    make.skip(4, net.layers.back());
    add(5, 1, 4 * channels, 2);                                        // 6: two rows each
    net.layers.push_back(make.layer({6}, channels, 1, net));           // 7
    make.skip(2, net.layers.back());
    add(7, 2, 7, 1);                                                   // 8
    net.outputs = {{{{3, 0, channels}}, true}, {{{7, 0, channels}}, false, -0.5f}, {{{8, 0, 7}}, true}};
    return net;
}

// Layers of which an input lets some outputs through: tap by tap, by squares, and with sums that a tensor is added to.
inline Net gated_net(Maker& make) {
    Net net;
    const size_t channels = make.size(1, 60);
    net.inputs = {make.input(make.size(1, 50), net), make.input(channels, net)};
    const auto add = [&](size_t source, size_t side) {
        net.layers.push_back(make.layer({source}, channels, 1, net));
        TermSpec& term = net.layers.back().terms[0];
        term.height = term.width = side, term.above = term.before = side / 2;
        term.weights.assign(channels * net.channels[source] * side * side, 0);
        for (int16_t& weight : term.weights) weight = static_cast<int16_t>(make.number(-300, 300));
        net.layers.back().gate = 1;
    };
    add(0, 1);
    add(2, 3);
    add(3, 3);
    make.skip(2, net.layers.back());
    net.outputs = {{{{2, 0, channels}}, true}, {{{3, 0, channels}}, true}, {{{4, 0, channels}}, true}};
    return net;
}

// Layers of so many channels that no kernel leaves them to another, of values and weights of a byte each, or beyond; among
// others with sums that a tensor is added to, a gate, more outputs than a block has, and a shuffle.
inline Net large_net(Maker& make) {
    Net net;
    const auto input = [&](size_t channels) {
        net.channels.push_back(channels);
        const float bound = make.number(0, 2) == 0 ? 128 : make.number(0, 1) == 0 ? 127 : 32767;
        net.inputs.push_back({channels, std::vector<float>(channels, 8), std::vector<float>(channels, -bound),
                              std::vector<float>(channels, bound)});
        net.inputs.back().low[make.size(0, static_cast<int>(channels) - 1)] -= 1;
    };
    const auto add = [&](const std::vector<size_t>& sources, size_t outputs, size_t side, size_t shuffle = 1) {
        net.layers.push_back(make.layer(sources, outputs, shuffle, net));
        for (TermSpec& term : net.layers.back().terms) {
            term.height = term.width = side, term.above = term.before = side / 2;
            term.weights.resize(outputs * net.channels[term.source] * side * side);
            const int largest = make.number(0, 2) == 0 ? 127 : make.number(0, 1) == 0 ? 128 : 32767;
            for (int16_t& weight : term.weights) weight = static_cast<int16_t>(make.number(-largest - 1, largest));
        }
    };
    const size_t channels = make.size(20, 80);
    input(make.size(180, 330)), input(channels);
    add({0}, channels, 1);                              // 2
    add({2, 1}, 16 * make.size(1, 3) + 1, make.size(2, 3));
    add({0}, channels, 1);                              // 4
    make.skip(2, net.layers.back());
    net.layers.back().gate = 1;
    add({0}, make.size(257, 300), 1);                   // 5
    add({5, 0}, 4 * 16, 1, 2);                          // 6
    net.outputs = {{{{3, 0, net.channels[3]}}, true}, {{{4, 0, channels}}, false}, {{{6, 0, 16}}, true}};
    for (const Dots* dots : available_dots()) {
        for (const size_t large : {1, 3})
            CHECK(NetLayer(net.layers[large], net.channels, 1, *dots).dots == dots);
        const LayerSpec little = make.layer({0}, 4, 1, net);
        net.channels.pop_back();
        CHECK((NetLayer(little, {2}, 1, *dots).dots == dots) == (dots->small == nullptr));
    }
    return net;
}

}  // namespace basic
