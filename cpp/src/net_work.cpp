#include "net_work.hpp"

#include <algorithm>
#include <cstring>
#include <optional>
#include <span>

#include "vectorised.hpp"

namespace basic {
namespace {

// A skip to sums of `channels` each, of which the first `used` count, at so many places. Vectors that are not
// full would read the next position's values, which another thread may be writing.
BASIC_VECTORISED
void add(const DotsSkip& skip, const uint32_t* at, size_t count, size_t channels, size_t used,
         int32_t* sums) {
    const int32_t* shift = skip.shift;
    for (size_t p = 0; p < count; ++p, sums += channels) {
        const int16_t* values = skip.values + at[p] * skip.stride;
        for (size_t c = 0; c < used; ++c) {
            const auto value = static_cast<uint32_t>(int32_t{values[c]});
            sums[c] = static_cast<int32_t>(static_cast<uint32_t>(sums[c]) + (value << shift[c]));  // wraps
        }
    }
}

// Outputs of `channels` each, of which the first `used` count, through a gate.
void close(const DotsGate& gate, const uint32_t* at, size_t count, size_t channels, size_t used,
           int16_t* outputs) {
    for (size_t p = 0; p < count; ++p, outputs += channels) {
        const int16_t* values = gate.values + at[p] * gate.stride;
        for (size_t c = 0; c < used; ++c) outputs[c] = values[c] > 0 ? outputs[c] : int16_t{0};
    }
}

}  // namespace

void NetWork::compute(const NetGroup& group, size_t first, size_t last, const std::vector<Plane*>& results) {
    const size_t inputs = plan_.inputs.size(), rate = plan_.layers[group.first].rate;
    const size_t width = width_ * rate;
    const auto row_of = [&](size_t tensor) { return first * plan_.rates[tensor] / rate; };
    for (size_t tensor = 0; tensor < inputs + group.last; ++tensor) {
        const auto& [plane, top] = rows_[tensor];
        if (plane != nullptr && row_of(tensor) >= top)  // or else the group does not read it
            views_[tensor] = {plane->at(row_of(tensor) - top, 0), plane->stride(), plane->across()};
    }
    std::vector<Target> targets;
    for (size_t k = group.first; k < group.last; ++k) {
        const size_t tensor = inputs + k, row = row_of(tensor) - rows_[tensor].first;
        if (Plane* plane = results[k - group.first])
            targets.push_back(
                {plane->at(row, 0), nullptr, plane->stride(), plane->across(), plane->channels()});
        else
            targets.push_back(
                {nullptr, wide_[tensor].as<int32_t>() + row * width * plan_.channels[tensor], 0, 0, 0});
    }
    const NetCut cut(plan_, group, last - first, width);
    plan_.workers.each(cut.pieces(), [&](size_t number) {
        const NetPiece piece = cut.piece(number);
        for (size_t k = group.first; k < group.last; ++k)
            compute(plan_.layers[k], piece, targets[k - group.first]);
    });
}

size_t NetWork::unit_of(const NetLayer& layer) const {
    const size_t lanes = plan_.dots.lanes, whole = layer.vectors * lanes;
    const auto shorter = [&](const SkipSpec& skip) { return rows_[skip.source].plane->stride() < whole; };
    const bool spare = layer.shuffle == 1 && whole <= 2 * layer.outputs && !layer.taps.empty() &&
                       std::none_of(layer.skips.begin(), layer.skips.end(), shorter);
    return spare ? std::max<size_t>(lanes, 2) : 2;
}

// What the first position reads lies in the plane, or in its border.
DotsTap NetWork::dots_tap(const NetLayer::Tap& tap) const {
    const PlaneView& view = views_[tap.source];
    const auto stride = static_cast<std::ptrdiff_t>(view.stride),
               across = static_cast<std::ptrdiff_t>(view.across);
    return {rows_[tap.source].plane->data(),
            view.values + (tap.down * across + tap.right) * stride + static_cast<std::ptrdiff_t>(tap.first),
            view.stride, tap.pairs};
}

// A skip's channels from one on.
DotsSkip NetWork::dots_skip(const SkipSpec& skip, size_t channel) const {
    const PlaneView& view = views_[skip.source];
    return {view.values + channel, view.stride, skip.shift.data() + channel};
}

// A layer's results for some positions.
void NetWork::compute(const NetLayer& layer, const NetPiece& piece, const Target& target) const {
    if (layer.winograd != nullptr) return by_squares(layer, piece, target);
    const Dots& dots = *layer.dots;
    const size_t positions = piece.at[1].size(), most = std::min(layer.block, layer.vectors) * dots.lanes;
    const size_t count = piece.places.size();  // without those that fill the lists up
    const std::unique_ptr<int32_t[]> sums(new int32_t[positions * most]);
    const std::unique_ptr<int16_t[]> block(new int16_t[positions * most]);
    std::vector<DotsTap> taps;
    std::vector<DotsSkip> skips;
    const int16_t* weights = layer.weights.data();
    for (size_t first = 0; first < layer.vectors; first += layer.block) {
        const size_t vectors = std::min(layer.block, layer.vectors - first), channel = first * dots.lanes;
        const size_t channels = vectors * dots.lanes, used = std::min(channels, layer.outputs - channel);
        skips.clear();
        for (const SkipSpec& skip : layer.skips) skips.push_back(dots_skip(skip, channel));
        const DotsFinish finish = finish_of(layer, piece, channel, channels, skips, target, block.get());
        const bool whole = channel + channels <= layer.outputs || finish.outputs != block.get();
        const bool fused = !layer.wide && whole && !layer.taps.empty();
        const int32_t* bias = layer.bias.data() + channel;
        if (layer.taps.empty() || (!fused && !skips.empty())) {
            for (size_t p = 0; p < positions; ++p) std::copy_n(bias, channels, sums.get() + p * channels);
            for (const DotsSkip& skip : skips)
                add(skip, piece.at[1].data(), count, channels, used, sums.get());
            bias = nullptr;
        }
        size_t tap = 0;
        for (const auto [last, values] : layer.sweeps) {
            const size_t stride = layer.taps[tap].stride;
            taps.clear();
            for (; tap < last; ++tap) taps.push_back(dots_tap(layer.taps[tap]));
            dots.accumulate(taps.data(), taps.size(), weights, bias, piece.at[stride].data(), positions,
                            vectors, sums.get(), fused && last == layer.taps.size() ? &finish : nullptr);
            weights += values * vectors;
            bias = nullptr;
        }
        if (layer.wide) {
            dots.requantise_wide(sums.get(), positions, vectors, finish.how, sums.get());
            const size_t width = width_ * layer.rate;
            for (size_t p = 0; p < count; ++p)
                std::copy_n(sums.get() + p * channels, used,
                            target.wide +
                                (piece.places[p].row * width + piece.places[p].column) * layer.outputs +
                                channel);
        } else {
            if (!fused) dots.requantise(sums.get(), positions, vectors, finish.how, block.get());
            if (!fused && layer.gate)
                close(finish.gate, piece.at[1].data(), count, channels, used, block.get());
            if (!fused || finish.outputs == block.get())
                store(layer, piece, block.get(), channel, channels, target);
        }
    }
}

// The same by squares of positions.
void NetWork::by_squares(const NetLayer& layer, const NetPiece& piece, const Target& target) const {
    const Dots& dots = *layer.dots;
    const Winograd& winograd = *layer.winograd;
    const uint32_t* numbers = plan_.numbers.data();
    Winograd::Sums sums(winograd, piece.squares.size());
    std::optional<Winograd::Sums> low;  // of the low parts of values, if those must be taken apart
    if (!winograd.compute(views_, piece.squares, numbers, sums)) {
        winograd.compute_part(ValuePart::high, views_, piece.squares, numbers, sums);
        low.emplace(winograd, piece.squares.size());
        winograd.compute_part(ValuePart::low, views_, piece.squares, numbers, *low);
    }
    const size_t most = std::min(dots.vectors, layer.vectors) * dots.lanes;
    const std::unique_ptr<int16_t[]> block(new int16_t[piece.at[1].size() * most]);
    for (size_t first = 0; first < layer.vectors; first += dots.vectors) {
        const size_t vectors = std::min(dots.vectors, layer.vectors - first), channel = first * dots.lanes;
        const size_t channels = vectors * dots.lanes;
        const DotsFinish finish = finish_of(layer, piece, channel, channels, {}, target, block.get());
        dots.finish_squares(sums.block(first), low ? low->block(first) : nullptr, sums.apart(vectors),
                            piece.places.size() / 4, vectors, layer.bias.data() + channel, finish);
        if (finish.outputs == block.get()) store(layer, piece, block.get(), channel, channels, target);
    }
}

// Where the outputs of a block of channels go: to their places at once, or to `block`, from which `store`
// takes them.
DotsFinish NetWork::finish_of(const NetLayer& layer, const NetPiece& piece, size_t channel, size_t channels,
                              const std::vector<DotsSkip>& skips, const Target& target,
                              int16_t* block) const {
    const Requantisation how{layer.shift.data() + channel, layer.low.data() + channel,
                             layer.high.data() + channel, layer.leak};
    DotsGate gate;
    // An input, that nothing writes any more: vectors may read on into the next position or the border.
    if (layer.gate) gate = {views_[*layer.gate].values + channel, views_[*layer.gate].stride};
    const uint32_t* at = piece.at[1].data();
    const size_t side = layer.shuffle, place = layer.wide ? 0 : channel / target.channels;
    if (!layer.wide && (side == 1 ? channel + channels <= target.stride : layer.blocks_stay_together()))
        return {how,
                skips.data(),
                skips.size(),
                gate,
                at,
                target.at(place / side, place % side) + channel % target.channels,
                target.stride,
                piece.at[side].data()};
    return {how, skips.data(), skips.size(), gate, at, block, channels, plan_.numbers.data()};
}

// The outputs of a block of channels from `first` to their places, of which a pixel shuffle gives each
// position some.
void NetWork::store(const NetLayer& layer, const NetPiece& piece, const int16_t* block, size_t first,
                    size_t channels, const Target& target) {
    const size_t last = std::min(first + channels, layer.outputs), each = target.channels,
                 side = layer.shuffle;
    // From the end, as of positions that are the same place the first of a square counts.
    for (size_t p = piece.places.size(); p-- > 0;) {
        const NetPiece::Place at = piece.places[p];
        const int16_t* outputs = block + p * channels;
        for (size_t c = first; c < last;) {
            const size_t place = c / each, count = std::min(last, (place + 1) * each) - c;
            std::memcpy(target.at(at.row * side + place / side, at.column * side + place % side) + c % each,
                        outputs + (c - first), 2 * count);
            c += count;
        }
    }
}

}  // namespace basic
