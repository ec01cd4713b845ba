// Tests of networks that run over the rows of their inputs: however these are cut, the results are those of
// whole tensors.
#include <algorithm>
#include <optional>

#include "basic/integer_net.hpp"
#include "check.hpp"
#include "definition.hpp"
#include "random_nets.hpp"

namespace {

using basic::FloatInput;
using basic::floats_of;
using basic::IntegerNet;
using basic::Maker;
using basic::Net;
using basic::NetError;
using basic::NetInput;
using basic::NetOutput;
using basic::NetStream;
using basic::Plane;
using basic::TermSpec;
using basic::Workers;

// Kernels of 3x3, one after the other, by squares where there are channels enough; what the first gives is
// added at the end, with an input that waits for all of them.
Net deep_net(Maker& make) {
    Net net;
    const size_t channels = 16 * make.size(1, 4);
    net.inputs = {make.input(channels, net), make.input(channels, net)};
    const auto add = [&](size_t source, size_t side, size_t outputs, size_t shuffle = 1) {
        net.layers.push_back(make.layer({source}, outputs, shuffle, net));
        TermSpec& term = net.layers.back().terms[0];
        term.height = term.width = side, term.above = term.before = side / 2;
        term.weights.assign(outputs * net.channels[source] * side * side, 0);
        for (int16_t& weight : term.weights) weight = static_cast<int16_t>(make.number(-300, 300));
    };
    for (const size_t source : {0, 2, 3, 4, 5}) add(source, make.number(0, 3) == 0 ? 1 : 3, channels);
    make.skip(2, net.layers.back());
    make.skip(1, net.layers.back());
    add(6, 3, 4 * 12, 2);        // 7: two rows each
    add(7, 3, net.channels[7]);  // 8
    net.outputs = {{{{8, 0, net.channels[8]}}, true}, {{{4, 1, channels - 1}}, false, 0.5f}};
    return net;
}

// The values of rows that come one after the other, as one tensor has them: (channels, height, width).
std::vector<float> joined(const std::vector<NetOutput>& parts, size_t channels) {
    std::vector<float> values;
    for (size_t c = 0; c < channels; ++c)
        for (const NetOutput& part : parts) {
            const std::vector<float> some = floats_of(part);
            const auto each = static_cast<std::ptrdiff_t>(some.size() / channels);
            const auto first = some.begin() + static_cast<std::ptrdiff_t>(c) * each;
            values.insert(values.end(), first, first + each);
        }
    return values;
}

// Values (channels, height, width), of which rows are taken.
struct Given {
    std::vector<float> values;
    size_t channels, height, width;

    FloatInput rows(size_t first, size_t last) const {
        return {values.data() + first * width,
                channels,
                last - first,
                width,
                static_cast<std::ptrdiff_t>(height * width),
                static_cast<std::ptrdiff_t>(width)};
    }
};

std::vector<NetInput> rows_of(const std::vector<Given>& given, const Net& net, size_t first, size_t last) {
    std::vector<NetInput> inputs;
    for (size_t k = 0; k < given.size(); ++k)
        inputs.push_back(given[k].rows(first * net.inputs[k].rate, last * net.inputs[k].rate));
    return inputs;
}

void test_rows_in_any_parts(Net (*random)(Maker&), unsigned nets = 12) {
    for (unsigned seed = 0; seed < nets; ++seed) {
        Maker make(seed);
        Net net = random(make);
        std::erase_if(net.outputs, [](const basic::OutputSpec& spec) { return spec.parts[0].step != 1; });
        const size_t rows = make.size(1, 24), columns = make.size(1, 30);
        std::vector<Given> given;
        for (const basic::InputSpec& spec : net.inputs) {
            const size_t height = rows * spec.rate, width = columns * spec.rate;
            given.push_back({make.values(spec.channels * height * width), spec.channels, height, width});
        }
        for (unsigned turn = seed; const basic::Dots* dots : basic::available_dots()) {
            const size_t threads = turn++ % 2 ? 1 : 3;  // as both would take minutes under sanitizers
            const IntegerNet made(net.inputs, net.layers, net.outputs, Workers::of(threads), *dots);
            const auto whole = made.run(rows_of(given, net, 0, rows));
            const size_t most = make.size(1, 8);  // rows at a time
            NetStream stream(made);
            std::vector<std::vector<NetOutput>> found(whole.size());
            for (size_t first = 0, last = 0; first < rows; first = last) {
                last = std::min(rows, first + make.size(1, static_cast<int>(most)));
                auto some = stream.advance(rows_of(given, net, first, last), last == rows);
                for (size_t k = 0; k < some.size(); ++k) found[k].push_back(std::move(some[k]));
            }
            for (size_t k = 0; k < whole.size(); ++k) {
                size_t channels = 0;
                for (const basic::PartSpec& part : net.outputs[k].parts) channels += part.channels;
                CHECK(joined(found[k], channels) == floats_of(whole[k]));
            }
            CHECK_THROWS(stream.advance(rows_of(given, net, 0, 1), true), NetError);
        }
    }
}

void test_refusals() {
    Maker make(3);
    Net net = basic::strided_net(make);
    const auto values = make.values(std::max(net.inputs[0].channels * 16, net.inputs[1].channels) * 8);
    const auto inputs = [&](size_t columns) {
        return std::vector<NetInput>{FloatInput{values.data(), net.inputs[0].channels, 4, 4 * columns},
                                     FloatInput{values.data(), net.inputs[1].channels, 1, columns}};
    };
    const IntegerNet made(net.inputs, net.layers, net.outputs, Workers::of(1));
    NetStream stream(made);
    CHECK_THROWS(stream.advance({inputs(2)[0]}, false), NetError);
    stream.advance(inputs(2), false);
    CHECK_THROWS(stream.advance(inputs(1), false), NetError);
    stream.advance(inputs(2), true);  // which harmed nothing
    for (const basic::OutputSpec& spec :
         {basic::OutputSpec{{{3, 0, 1, 2, 0, 0}}, true}, basic::OutputSpec{{{3, 0, 1}, {4, 0, 1}}, true}}) {
        const IntegerNet other(net.inputs, net.layers, {spec}, Workers::of(1));
        CHECK_THROWS(NetStream{other}, NetError);
    }
}

}  // namespace

int main() {
    test_rows_in_any_parts(basic::random_net);
    test_rows_in_any_parts(basic::strided_net);
    test_rows_in_any_parts(basic::gated_net);
    test_rows_in_any_parts(deep_net);
    test_rows_in_any_parts(basic::large_net, 6);
    test_refusals();
}
