#include "basic/integer_net.hpp"

#include <algorithm>
#include <array>
#include <numeric>
#include <string>

#include "net_plan.hpp"

namespace basic {
namespace {

// Pairs of channels that are summed in one go: their weights stay in the second cache while all positions pass.
constexpr size_t kPairsAtOnce = 192;
// Inputs whose weights are put in order for one output after the other: as many as leave their places in the first cache.
constexpr size_t kTogether = 64;
constexpr size_t kMaxChannels = 1 << 16, kMaxKernel = 1 + 2 * kBorder;

void require(bool holds, const std::string& problem) {
    if (!holds) throw NetError(problem);
}

bool is_wide(const LayerSpec& spec) {
    const auto beyond = [](int32_t bound) { return bound < INT16_MIN || bound > INT16_MAX; };
    return std::any_of(spec.low.begin(), spec.low.end(), beyond) ||
           std::any_of(spec.high.begin(), spec.high.end(), beyond);
}

void check_layer(const LayerSpec& spec, size_t inputs, const std::vector<size_t>& channels,
                 const std::vector<size_t>& rates, const std::string& where) {
    const size_t outputs = spec.bias.size();
    require(!spec.terms.empty(), where + " has no terms");
    require(spec.shuffle >= 1 && spec.shuffle <= kMaxStep, where + ": its shuffle is not 1 to 8");
    require(outputs > 0 && outputs <= kMaxChannels && outputs % (spec.shuffle * spec.shuffle) == 0,
            where + ": its number of outputs cannot be");
    require(spec.shift.size() == outputs && spec.low.size() == outputs && spec.high.size() == outputs,
            where + ": shift, low and high must be as many as the biases");
    for (const int32_t shift : spec.shift) require(shift >= 0 && shift < 32, where + ": a shift is not 0 to 31");
    for (size_t k = 0; k < outputs; ++k) require(spec.low[k] <= spec.high[k], where + ": bounds are not in order");
    require(!is_wide(spec) || spec.shuffle == 1, where + ": its bounds are not int16, and it has a shuffle");
    const auto inside = [](size_t length, size_t before, size_t stride) {
        return length >= 1 && length <= kMaxKernel && before < length && before <= kBorder &&
               length - before <= kBorder + stride;
    };
    size_t rate = 0;
    for (const TermSpec& term : spec.terms) {
        require(term.source < channels.size(), where + " reads a tensor that comes after it");
        require(term.stride >= 1 && term.stride <= kMaxStep && rates[term.source] % term.stride == 0,
                where + ": a stride does not divide its tensor");
        if (rate == 0) rate = rates[term.source] / term.stride;
        require(rates[term.source] / term.stride == rate, where + " reads tensors of unequal sizes");
        require(inside(term.height, term.above, term.stride) && inside(term.width, term.before, term.stride),
                where + ": a kernel reaches too far");
        require(term.weights.size() == outputs * channels[term.source] * term.height * term.width,
                where + ": weights are not (outputs, channels, height, width)");
    }
    for (const SkipSpec& skip : spec.skips) {
        require(skip.source < channels.size(), where + " reads a tensor that comes after it");
        require(channels[skip.source] == outputs && rates[skip.source] == rate && spec.shuffle == 1 &&
                    skip.shift.size() == outputs,
                where + ": what is added to its sums has another size");
        for (const int32_t shift : skip.shift) require(shift >= 0 && shift < 32, where + ": a shift is not 0 to 31");
    }
    if (spec.gate)
        require(*spec.gate < inputs && channels[*spec.gate] == outputs && rates[*spec.gate] == rate && spec.shuffle == 1 &&
                    !is_wide(spec),
                where + ": its gate is no input of its size");
}

void check_input(const InputSpec& spec) {
    require(spec.channels > 0 && spec.channels <= kMaxChannels, "an input has no channels, or too many");
    require(spec.rate >= 1 && spec.rate <= kMaxStep * kMaxStep, "an input's rate cannot be");
    require(spec.scale.size() == spec.channels && spec.low.size() == spec.channels &&
                spec.high.size() == spec.channels,
            "scale, low and high of an input must be as many as its channels");
    for (size_t c = 0; c < spec.channels; ++c)
        require(INT16_MIN <= spec.low[c] && spec.low[c] <= spec.high[c] && spec.high[c] <= INT16_MAX,
                "bounds of an input are not in order, or not int16");
}

void check_output(const OutputSpec& spec, const NetPlan& plan) {
    const std::vector<size_t>&channels = plan.channels, &rates = plan.rates;
    require(!spec.parts.empty(), "an output has no parts");
    for (const PartSpec& part : spec.parts) {
        require(part.tensor < channels.size(), "an output is no tensor of the network");
        require(part.channels > 0 && part.first < channels[part.tensor] &&
                    part.channels <= channels[part.tensor] - part.first,
                "an output has channels that its tensor has not");
        require(part.step >= 1 && part.step <= kMaxStep && part.row < part.step && part.column < part.step,
                "an output's rows and columns cannot be");
        require(rates[part.tensor] == rates[spec.parts[0].tensor] && part.step == spec.parts[0].step,
                "an output has parts of unequal sizes");
        require(!spec.plane || !plan.wide(part.tensor), "a plane cannot have values that are not int16");
    }
}

// Vectors that a layer sums at a time: as many as there can be, as Winograd counts on, or, of one whose taps read their own
// position alone, which squares never pay for, so many that those of a block go to the same new position of a shuffle.
size_t block_of(const LayerSpec& spec, const Dots& dots) {
    const size_t each = spec.bias.size() / (spec.shuffle * spec.shuffle);
    const bool alone = std::all_of(spec.terms.begin(), spec.terms.end(),
                                   [](const TermSpec& term) { return term.height == 1 && term.width == 1; });
    if (spec.shuffle == 1 || !alone || each % dots.lanes != 0) return dots.vectors;
    size_t block = std::min(dots.vectors, each / dots.lanes);
    while (each / dots.lanes % block != 0) --block;
    return block;
}

// Where an output channel goes before a pixel shuffle: all channels of one of the new positions side by side.
size_t shuffled(size_t channel, size_t outputs, size_t shuffle) {
    const size_t places = shuffle * shuffle;
    return channel % places * (outputs / places) + channel / places;
}

// Pairs of weights that are `step` values apart to places `block` apart; the last may be alone.
inline void put_pairs(const int16_t* weights, size_t step, size_t count, int16_t* to, size_t block) {
    for (; count > 1; count -= 2, weights += 2 * step, to += block) to[0] = weights[0], to[1] = weights[step];
    if (count == 1) to[0] = weights[0];
}

// The places of a kernel, in the order of its rows, that any weight is at.
std::vector<size_t> used_places(const TermSpec& term) {
    const size_t places = term.height * term.width;
    std::vector<size_t> found;
    for (size_t place = 0; place < places; ++place) {
        size_t k = place;
        while (k < term.weights.size() && term.weights[k] == 0) k += places;
        if (k < term.weights.size()) found.push_back(place);
    }
    return found;
}

}  // namespace

PhasesInput::PhasesInput(std::vector<Phase> given, size_t step, float unit)
    : phases(std::move(given)), step(step), unit(unit) {
    require(step >= 1 && step <= kMaxStep, "a tensor in parts has too large a step, or none");
    const auto sizes = [](const Phase& phase) {
        return std::visit([](const auto& v) { return std::array{v.channels, v.height, v.width}; }, phase.values);
    };
    const auto end = [step](size_t first, size_t count) { return count == 0 ? 0 : first + (count - 1) * step + 1; };
    for (const Phase& phase : phases) {
        const auto [some, rows, columns] = sizes(phase);
        require(phase.first <= kMaxChannels && some <= kMaxChannels && phase.row < step && phase.column < step,
                "a part of a tensor lies beside it, or it has too many channels");
        channels = std::max(channels, phase.first + some);
        height = std::max(height, end(phase.row, rows)), width = std::max(width, end(phase.column, columns));
    }
    std::vector<bool> there(channels * step * step);
    size_t count = 0;
    for (const Phase& phase : phases) {
        const auto [some, rows, columns] = sizes(phase);
        require(rows == every(height, phase.row, step) && columns == every(width, phase.column, step),
                "the parts of a tensor differ in size");
        for (size_t c = phase.first; c < phase.first + some; ++c, ++count)
            there[(c * step + phase.row) * step + phase.column] = true;
    }
    require(count == there.size() && std::all_of(there.begin(), there.end(), [](bool one) { return one; }),
            "the parts of a tensor do not have each of its values once");
}

NetLayer::NetLayer(const LayerSpec& spec, const std::vector<size_t>& channels, size_t rate, const Dots& all)
    : leak(spec.leak), wide(is_wide(spec)), shuffle(spec.shuffle), rate(rate), outputs(spec.bias.size()),
      vectors((outputs + all.lanes - 1) / all.lanes), dots(&all), gate(spec.gate) {
    std::vector<size_t> from(outputs);
    for (size_t c = 0; c < outputs; ++c) from[shuffled(c, outputs, shuffle)] = c;
    const auto ordered = [&](const std::vector<int32_t>& values) {
        std::vector<int32_t> result(vectors * dots->lanes);
        for (size_t c = 0; c < outputs; ++c) result[c] = values[from[c]];
        return result;
    };
    bias = ordered(spec.bias), shift = ordered(spec.shift), low = ordered(spec.low), high = ordered(spec.high);
    for (const SkipSpec& skip : spec.skips) skips.push_back({skip.source, ordered(skip.shift)});
    const std::vector<Given> given = set_taps(spec, channels);
    if (all.small != nullptr && all.is_small(taps.size(), pairs(), vectors)) dots = all.small;
    block = block_of(spec, *dots);
    set_sweeps();
    Weights plain = weights_of(given, from);
    winograd = Winograd::of(*this, plain.data());
    if (winograd == nullptr) weights = dots->packed == nullptr ? std::move(plain) : packed(plain.data());
}

std::vector<NetLayer::Given> NetLayer::set_taps(const LayerSpec& spec, const std::vector<size_t>& channels) {
    std::vector<Given> given;
    for (const TermSpec& term : spec.terms)
        for (const size_t place : used_places(term)) {
            const int down = static_cast<int>(place / term.width) - static_cast<int>(term.above);
            const int right = static_cast<int>(place % term.width) - static_cast<int>(term.before);
            const size_t places = term.height * term.width, inputs = channels[term.source];
            const size_t pieces = (inputs + 2 * kPairsAtOnce - 1) / (2 * kPairsAtOnce);
            const size_t each = rounded_up((inputs + pieces - 1) / pieces, 2);  // none of them is much smaller
            for (size_t first = 0; first < inputs; first += each) {
                const size_t count = std::min(each, inputs - first);
                taps.push_back({term.source, term.stride, down, right, first, (count + 1) / 2});
                given.push_back({term.weights.data() + first * places + place, places, inputs});
            }
        }
    return given;
}

void NetLayer::set_sweeps() {
    const size_t pair_bytes = 2 * sizeof(int16_t) * std::min(block, vectors) * dots->lanes;
    for (size_t first = 0, last = 0; last < taps.size(); first = last) {
        size_t pairs = 0;
        do pairs += taps[last++].pairs;
        while (last < taps.size() && taps[last].stride == taps[first].stride &&
               (pairs + taps[last].pairs) * pair_bytes <= dots->weight_bytes);
        sweeps.push_back({last, dots->packed == nullptr ? 2 * pairs * dots->lanes : dots->packed(pairs_of(first, last))});
    }
}

Weights NetLayer::weights_of(const std::vector<Given>& given, const std::vector<size_t>& from) const {
    Weights result;
    result.reserve(2 * pairs() * vectors * dots->lanes);
    for (size_t first = 0; first < vectors; first += block) {
        const size_t begin = first * dots->lanes, end = std::min(first + block, vectors) * dots->lanes;
        const size_t apart = 2 * (end - begin), start = result.size();
        result.resize(start + apart * pairs());
        int16_t* to = result.data() + start;
        for (size_t t = 0; t < taps.size(); to += taps[t].pairs * apart, ++t) {
            const auto [weights, places, inputs] = given[t];
            const size_t count = std::min(2 * taps[t].pairs, inputs - taps[t].first);
            for (size_t some = 0; some < count; some += kTogether)
                for (size_t c = begin; c < std::min(end, outputs); ++c)
                    put_pairs(weights + (from[c] * inputs + some) * places, places, std::min(kTogether, count - some),
                              to + some / 2 * apart + 2 * (c - begin), apart);
        }
    }
    return result;
}

Weights NetLayer::packed(const int16_t* plain) const {
    Weights result;
    for (size_t first = 0; first < vectors; first += block) {
        const size_t some = std::min(block, vectors - first);
        size_t tap = 0;
        for (const auto [last, count] : sweeps) {
            const std::vector<size_t> each = pairs_of(tap, last);
            const size_t start = result.size();
            result.resize(start + some * count);
            dots->pack(plain, each, some, result.data() + start);
            plain += 2 * std::accumulate(each.begin(), each.end(), size_t{0}) * some * dots->lanes;
            tap = last;
        }
    }
    return result;
}

std::vector<size_t> NetLayer::pairs_of(size_t first, size_t last) const {
    std::vector<size_t> pairs;
    for (size_t t = first; t < last; ++t) pairs.push_back(taps[t].pairs);
    return pairs;
}

size_t NetLayer::pairs() const {
    const std::vector<size_t> each = pairs_of(0, taps.size());
    return std::accumulate(each.begin(), each.end(), size_t{0});
}

void NetPlan::add(const std::vector<LayerSpec>& specs) {
    const auto narrow = [&](size_t tensor) { return tensor < inputs.size() || !is_wide(specs[tensor - inputs.size()]); };
    const auto rate_of = [&](const LayerSpec& spec) { return rates[spec.terms[0].source] / spec.terms[0].stride; };
    for (size_t k = 0; k < specs.size(); ++k) {
        const LayerSpec& spec = specs[k];
        check_layer(spec, inputs.size(), channels, rates, "layer " + std::to_string(k));
        for (const TermSpec& term : spec.terms) require(narrow(term.source), "a layer reads values that are not int16");
        for (const SkipSpec& skip : spec.skips) require(narrow(skip.source), "a layer reads values that are not int16");
        channels.push_back(spec.bias.size() / (spec.shuffle * spec.shuffle));
        rates.push_back(rate_of(spec) * spec.shuffle);
        require(rates.back() <= kMaxStep * kMaxStep, "too many pixel shuffles");
    }
    layers.resize(specs.size());
    workers.each(specs.size(), [&](size_t k) { layers[k] = NetLayer(specs[k], channels, rate_of(specs[k]), dots); });
    for (size_t k = 0; k < layers.size(); ++k) group(k);
}

void NetPlan::group(size_t number) {
    const NetLayer& layer = layers[number];
    const auto waits = [&](const NetLayer::Tap& tap) {
        // By squares all taps' neighbours are read, of whatever weight.
        const bool beside = layer.winograd != nullptr || tap.down != 0 || tap.right != 0 || tap.stride != 1;
        return beside && tap.source >= inputs.size() + groups.back().first;
    };
    if (groups.empty() || layers[groups.back().first].rate != layer.rate ||
        std::any_of(layer.taps.begin(), layer.taps.end(), waits))
        groups.push_back({number, number, {}, {}, false});
    NetGroup& group = groups.back();
    group.last = number + 1;
    group.in_squares |= layer.winograd != nullptr;
    const auto add_stride = [&](size_t stride) {
        if (std::find(group.strides.begin(), group.strides.end(), stride) == group.strides.end())
            group.strides.push_back(stride);
    };
    for (const NetLayer::Tap& tap : layer.taps) add_stride(tap.stride);
    if (layer.blocks_stay_together()) add_stride(layer.shuffle);
}

void NetPlan::finish() {
    std::vector<size_t> last(channels.size(), 0);  // the group after the last to read a tensor, or make it
    for (size_t g = 0; g < groups.size(); ++g)
        for (size_t k = groups[g].first; k < groups[g].last; ++k) {
            last[inputs.size() + k] = g + 1;
            for (const NetLayer::Tap& tap : layers[k].taps) last[tap.source] = g + 1;
            for (const SkipSpec& skip : layers[k].skips) last[skip.source] = g + 1;
            if (layers[k].gate) last[*layers[k].gate] = g + 1;
        }
    for (const OutputSpec& output : outputs)
        for (const PartSpec& part : output.parts) last[part.tensor] = 0;
    for (size_t tensor = 0; tensor < last.size(); ++tensor)
        if (last[tensor] != 0) groups[last[tensor] - 1].finished.push_back(tensor);
}

IntegerNet::IntegerNet(std::vector<InputSpec> inputs, std::vector<LayerSpec> layers, std::vector<OutputSpec> outputs,
                       Workers& workers, const Dots& dots) {
    auto plan = std::make_unique<NetPlan>(NetPlan{std::move(inputs), {}, {}, std::move(outputs), {}, {}, workers, dots});
    require(!plan->inputs.empty(), "a network has no inputs");
    for (const InputSpec& spec : plan->inputs) {
        check_input(spec);
        plan->channels.push_back(spec.channels);
        plan->rates.push_back(spec.rate);
    }
    plan->add(layers);
    for (const OutputSpec& spec : plan->outputs) check_output(spec, *plan);
    plan->finish();
    plan->numbers.resize(kPositionsAtOnce + 4 * dots.positions);
    std::iota(plan->numbers.begin(), plan->numbers.end(), 0);
    plan_ = std::move(plan);
}

IntegerNet::~IntegerNet() = default;

const Dots& IntegerNet::dots() const { return plan_->dots; }

size_t IntegerNet::bytes() const {
    size_t bytes = 0;
    for (const NetLayer& layer : plan_->layers)
        bytes += layer.weights.size() * sizeof(int16_t) + (layer.winograd == nullptr ? 0 : layer.winograd->bytes());
    return bytes;
}

}  // namespace basic
