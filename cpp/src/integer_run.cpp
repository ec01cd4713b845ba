// Running an IntegerNet: its tensors, and the work on them in pieces for several threads.
#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>

#include "basic/convert.hpp"
#include "basic/integer_net.hpp"
#include "net_plan.hpp"
#include "vectorised.hpp"

namespace basic {
namespace {

constexpr size_t kMaxSide = 1 << 20;

// A piece of a group's layers: positions that one thread computes.
struct Piece {
    struct Place {
        uint32_t row, column;
    };

    std::vector<Place> places;
    // For each stride, their places in a plane of so many times their rows and columns, counted from its first one, and
    // the last one's again to a multiple of what Dots takes.
    std::array<std::vector<uint32_t>, kMaxStep + 1> at;
    std::vector<uint32_t> squares;  // at[1] of the first position of each square, if they come in squares
};

// A skip to sums of `channels` each, of which the first `used` count. Vectors that are not full would read the next
// position's values, which another thread may be writing.
BASIC_VECTORISED
void add(const DotsSkip& skip, const Piece& piece, size_t channels, size_t used, int32_t* sums) {
    const int32_t* shift = skip.shift;
    for (size_t p = 0; p < piece.places.size(); ++p, sums += channels) {
        const int16_t* values = skip.values + piece.at[1][p] * skip.stride;
        for (size_t c = 0; c < used; ++c) {
            const auto value = static_cast<uint32_t>(int32_t{values[c]});
            sums[c] = static_cast<int32_t>(static_cast<uint32_t>(sums[c]) + (value << shift[c]));  // wraps
        }
    }
}

// Outputs of `channels` each, of which the first `used` count, through a gate.
void close(const DotsGate& gate, const Piece& piece, size_t channels, size_t used, int16_t* outputs) {
    for (size_t p = 0; p < piece.places.size(); ++p, outputs += channels) {
        const int16_t* values = gate.values + piece.at[1][p] * gate.stride;
        for (size_t c = 0; c < used; ++c) outputs[c] = values[c] > 0 ? outputs[c] : int16_t{0};
    }
}

// One run: the tensors of a plan for some inputs, and the work on them.
class NetRun {
  public:
    NetRun(const NetPlan& plan, const std::vector<NetInput>& inputs)
        : plan_(plan), planes_(plan.channels.size()), wide_(planes_.size()) {
        check(inputs);
        for (size_t k = 0; k < inputs.size(); ++k)
            planes_[k] = std::visit([&](const auto& input) { return read(plan.inputs[k], input); }, inputs[k]);
        for (const NetGroup& group : plan.groups) {
            compute(group);
            for (const size_t tensor : group.finished) planes_[tensor].reset(), wide_[tensor] = {};
        }
    }

    NetOutput output(const OutputSpec& spec) const {
        const PartSpec& first = spec.parts[0];
        if (spec.plane && spec.parts.size() == 1 && first.step == 1 && first.channels == plan_.channels[first.tensor])
            return planes_[first.tensor];
        size_t channels = 0;
        for (const PartSpec& part : spec.parts) {
            channels += part.channels;
            // Phases of a size that the step does not divide differ.
            if (rows(part) != rows(first) || columns(part) != columns(first))
                throw NetError("the parts of an output differ in size");
        }
        return spec.plane ? plane(spec, channels) : floats(spec, channels);
    }

  private:
    void check(const std::vector<NetInput>& inputs) {
        if (inputs.size() != plan_.inputs.size()) throw NetError("a network was given too few or too many inputs");
        for (size_t k = 0; k < inputs.size(); ++k) {
            const auto [channels, height, width] = std::visit(
                [](const auto& input) {
                    if constexpr (std::is_same_v<std::decay_t<decltype(input)>, std::shared_ptr<const Plane>>)
                        return std::tuple(input->channels(), input->height(), input->width());
                    else
                        return std::tuple(input.channels, input.height, input.width);
                },
                inputs[k]);
            const size_t rate = plan_.inputs[k].rate;
            if (k == 0) height_ = height / rate, width_ = width / rate;
            if (channels != plan_.inputs[k].channels || height != height_ * rate || width != width_ * rate)
                throw NetError("input " + std::to_string(k) + " of a network has other channels, rows or columns");
        }
        if (height_ == 0 || width_ == 0 || height_ > kMaxSide || width_ > kMaxSide)
            throw NetError("the inputs of a network have no rows or columns, or too many");
        // Lists of positions are of uint32_t.
        const size_t rate = *std::max_element(plan_.rates.begin(), plan_.rates.end());
        if ((height_ * rate + 2 * kBorder) * (width_ * rate + 2 * kBorder) > UINT32_MAX)
            throw NetError("the inputs of a network have too many rows and columns");
    }

    std::shared_ptr<const Plane> read(const InputSpec& spec, const std::shared_ptr<const Plane>& plane) const {
        if (spec.plain()) return plane;
        const auto stride = static_cast<std::ptrdiff_t>(plane->stride());
        const auto across = static_cast<std::ptrdiff_t>(plane->position(1, 0) - plane->position(0, 0));
        return read(spec, PartInput{plane->data() + plane->position(0, 0) * plane->stride(), plane->channels(),
                                    plane->height(), plane->width(), across * stride, stride});
    }

    std::shared_ptr<const Plane> read(const InputSpec& spec, const PartInput& input) const {
        auto plane = std::make_shared<Plane>(input.channels, input.height, input.width);
        if (spec.plain()) {
            const auto stride = static_cast<std::ptrdiff_t>(plane->stride());
            const auto across = static_cast<std::ptrdiff_t>(plane->position(1, 0) - plane->position(0, 0));
            convert(input.values, plane->data() + plane->position(0, 0) * plane->stride(),
                    {{input.height, input.row_stride, across * stride},
                     {input.width, input.column_stride, stride},
                     {input.channels, 1, 1}},
                    1, plan_.workers);
            return plane;
        }
        plan_.workers.each(input.height, [&](size_t y) {
            const int16_t* from = input.values + static_cast<std::ptrdiff_t>(y) * input.row_stride;
            int16_t* to = plane->data() + plane->position(y, 0) * plane->stride();
            for (size_t x = 0; x < input.width; ++x, from += input.column_stride, to += plane->stride())
                put_together(from, spec, to);
        });
        return plane;
    }

    template <typename Value>
    std::shared_ptr<const Plane> read(const InputSpec& spec, const ArrayInput<Value>& input) const {
        auto plane = std::make_shared<Plane>(input.channels, input.height, input.width);
        plan_.workers.each(input.height, [&](size_t y) {
            put_together(input.values + static_cast<std::ptrdiff_t>(y) * input.row_stride, input.channel_stride,
                         input.width, spec,
                         plane->data() + plane->position(y, 0) * plane->stride(), plane->stride());
        });
        return plane;
    }

    std::shared_ptr<const Plane> read(const InputSpec& spec, const PhasesInput& input) const {
        auto plane = std::make_shared<Plane>(input.channels, input.height, input.width);
        std::vector<InputSpec> specs;
        for (const PhasesInput::Phase& phase : input.phases)
            specs.push_back(spec.part(
                phase.first, std::visit([](const auto& v) { return v.channels; }, phase.values), input.unit));
        const size_t rows = every(input.height, 0, input.step);  // of the highest part
        plan_.workers.each(input.phases.size() * rows, [&](size_t piece) {
            const PhasesInput::Phase& phase = input.phases[piece / rows];
            const size_t y = piece % rows;
            if (y * input.step + phase.row >= input.height) return;
            const size_t to = plane->position(y * input.step + phase.row, phase.column);
            std::visit(
                [&](const auto& part) {
                    put_together(part.values + static_cast<std::ptrdiff_t>(y) * part.row_stride, part.channel_stride,
                                 part.width, specs[piece / rows], plane->data() + to * plane->stride() + phase.first,
                                 input.step * plane->stride());
                },
                phase.values);
        });
        return plane;
    }

    size_t rows(const PartSpec& part) const {
        return every(height_ * plan_.rates[part.tensor], part.row, part.step);
    }
    size_t columns(const PartSpec& part) const {
        return every(width_ * plan_.rates[part.tensor], part.column, part.step);
    }

    NetOutput plane(const OutputSpec& spec, size_t channels) const {
        auto result = std::make_shared<Plane>(channels, rows(spec.parts[0]), columns(spec.parts[0]));
        plan_.workers.each(result->height(), [&](size_t y) {
            size_t channel = 0;
            for (const PartSpec& part : spec.parts) {
                const Plane& source = *planes_[part.tensor];
                for (size_t x = 0; x < result->width(); ++x) {
                    const size_t from = source.position(part.row + y * part.step, part.column + x * part.step);
                    std::memcpy(result->data() + result->position(y, x) * result->stride() + channel,
                                source.data() + from * source.stride() + part.first, 2 * part.channels);
                }
                channel += part.channels;
            }
        });
        return result;
    }

    NetOutput floats(const OutputSpec& spec, size_t channels) const {
        const size_t height = rows(spec.parts[0]), width = columns(spec.parts[0]);
        FloatOutput result{Memory(channels * height * width * sizeof(float)), channels, height, width};
        plan_.workers.each(height, [&](size_t y) {
            float* out = result.values.as<float>() + y * width;
            for (const PartSpec& part : spec.parts) {
                const size_t row = part.row + y * part.step;
                if (plan_.wide(part.tensor)) {
                    const size_t stride = plan_.channels[part.tensor];
                    const size_t from = row * width_ * plan_.rates[part.tensor] + part.column;
                    take_apart(wide_[part.tensor].as<int32_t>() + from * stride + part.first, part.step * stride,
                               part.channels, width, spec.scale, out, height * width);
                } else {
                    const Plane& source = *planes_[part.tensor];
                    const size_t from = source.position(row, part.column);
                    take_apart(source.data() + from * source.stride() + part.first, part.step * source.stride(),
                               part.channels, width, spec.scale, out, height * width);
                }
                out += part.channels * height * width;
            }
        });
        return result;
    }

    void compute(const NetGroup& group) {
        const size_t rate = plan_.layers[group.first].rate, height = height_ * rate, width = width_ * rate;
        std::vector<std::shared_ptr<Plane>> results(plan_.layers.size());
        for (size_t k = group.first; k < group.last; ++k) {
            const size_t tensor = plan_.inputs.size() + k, scale = plan_.layers[k].shuffle;
            if (plan_.layers[k].wide)
                wide_[tensor] = Memory(height * width * plan_.channels[tensor] * sizeof(int32_t));
            else
                planes_[tensor] = results[k] = std::make_shared<Plane>(plan_.channels[tensor], height * scale,
                                                                       width * scale, unit_of(plan_.layers[k]));
        }
        const size_t each = group.in_squares ? 4 : 1, side = group.in_squares ? 2 : 1;  // positions of a unit
        const size_t across = (width + side - 1) / side, units = (height + side - 1) / side * across;
        const size_t share = (units + plan_.workers.threads() - 1) / plan_.workers.threads();
        const size_t size = rounded_up(std::min(share, kPositionsAtOnce / each), plan_.dots.positions);
        plan_.workers.each((units + size - 1) / size, [&](size_t number) {
            const size_t first = number * size, last = std::min(first + size, units);
            const Piece piece = piece_of(first, last, across, side, height, width, group.strides);
            for (size_t k = group.first; k < group.last; ++k)
                compute(plan_.layers[k], piece, results[k].get(), wide_[plan_.inputs.size() + k].as<int32_t>());
        });
    }

    // What the stride of a layer's plane is a multiple of: vectors are written as they are, without another position's
    // values being in the way, where that takes no more than twice the memory, and what is added to them has as many.
    size_t unit_of(const NetLayer& layer) const {
        const size_t lanes = plan_.dots.lanes, whole = layer.vectors * lanes;
        const auto shorter = [&](const SkipSpec& skip) { return planes_[skip.source]->stride() < whole; };
        const bool spare = layer.shuffle == 1 && whole <= 2 * layer.outputs && !layer.taps.empty() &&
                           std::none_of(layer.skips.begin(), layer.skips.end(), shorter);
        return spare ? std::max<size_t>(lanes, 2) : 2;
    }

    // Units `first` to `last` of so many rows and columns, counted by rows; positions beyond the last row or column are
    // the last ones again.
    Piece piece_of(size_t first, size_t last, size_t across, size_t side, size_t height, size_t width,
                   const std::vector<size_t>& strides) const {
        Piece piece;
        piece.places.resize((last - first) * side * side);
        Piece::Place* place = piece.places.data();
        for (size_t unit = first; unit < last;) {  // along a row of units
            const size_t row = unit / across * side, column = unit % across;
            const size_t count = std::min(across - column, last - unit);
            place = side == 1 ? put_row(place, row, column, count)
                              : put_squares(place, row, 2 * column, count, height, width);
            unit += count;
        }
        fill(piece, 1, width);  // of what is added to sums, at least
        for (const size_t stride : strides)
            if (stride != 1) fill(piece, stride, width);
        if (side != 1) {
            piece.squares.resize(rounded_up(last - first, plan_.dots.positions), piece.at[1][4 * (last - first - 1)]);
            for (size_t k = 0; k < last - first; ++k) piece.squares[k] = piece.at[1][4 * k];
        }
        return piece;
    }

    static Piece::Place* put_row(Piece::Place* place, size_t row, size_t column, size_t count) {
        for (size_t k = 0; k < count; ++k) place[k] = {static_cast<uint32_t>(row), static_cast<uint32_t>(column + k)};
        return place + count;
    }

    static Piece::Place* put_squares(Piece::Place* place, size_t row, size_t column, size_t count, size_t height,
                                     size_t width) {
        const auto top = static_cast<uint32_t>(row), bottom = static_cast<uint32_t>(std::min(row + 1, height - 1));
        for (size_t k = 0; k < count; ++k, column += 2, place += 4) {
            const auto left = static_cast<uint32_t>(column);
            const auto right = static_cast<uint32_t>(std::min(column + 1, width - 1));
            place[0] = {top, left}, place[1] = {top, right}, place[2] = {bottom, left}, place[3] = {bottom, right};
        }
        return place;
    }

    void fill(Piece& piece, size_t stride, size_t width) const {
        std::vector<uint32_t>& at = piece.at[stride];
        const auto step = static_cast<uint32_t>(stride), down = step * static_cast<uint32_t>(width * stride + 2 * kBorder);
        const size_t count = piece.places.size();
        const Piece::Place& last = piece.places.back();
        at.resize(rounded_up(count, plan_.dots.positions), last.row * down + last.column * step);
        for (size_t k = 0; k < count; ++k) at[k] = piece.places[k].row * down + piece.places[k].column * step;
    }

    DotsTap dots_tap(const NetLayer::Tap& tap) const {
        const Plane& source = *planes_[tap.source];
        // What the first position reads lies in the plane, or in its border.
        const size_t first_read = static_cast<size_t>(tap.down + kBorder) * (source.width() + 2 * kBorder) +
                                  static_cast<size_t>(tap.right + kBorder);
        return {source.data(), source.data() + first_read * source.stride() + tap.first, source.stride(), tap.pairs};
    }

    // A skip's channels from one on.
    DotsSkip dots_skip(const SkipSpec& skip, size_t channel) const {
        const Plane& source = *planes_[skip.source];
        return {source.data() + source.position(0, 0) * source.stride() + channel, source.stride(),
                skip.shift.data() + channel};
    }

    // A layer's results for some positions, to one of the two.
    void compute(const NetLayer& layer, const Piece& piece, Plane* plane, int32_t* wide) const {
        if (layer.winograd != nullptr) return by_squares(layer, piece, *plane);
        const Dots& dots = *layer.dots;
        const size_t positions = piece.at[1].size(), most = std::min(layer.block, layer.vectors) * dots.lanes;
        const std::unique_ptr<int32_t[]> sums(new int32_t[positions * most]);
        const std::unique_ptr<int16_t[]> block(new int16_t[positions * most]);
        std::vector<DotsTap> taps;
        std::vector<DotsSkip> skips;
        const int16_t* weights = layer.weights.data();
        for (size_t first = 0; first < layer.vectors; first += layer.block) {
            const size_t vectors = std::min(layer.block, layer.vectors - first), channel = first * dots.lanes;
            const size_t channels = vectors * dots.lanes;
            skips.clear();
            for (const SkipSpec& skip : layer.skips) skips.push_back(dots_skip(skip, channel));
            const DotsFinish finish = finish_of(layer, piece, channel, channels, skips, plane, block.get());
            const bool whole = channel + channels <= layer.outputs || finish.outputs != block.get();
            const bool fused = wide == nullptr && whole && !layer.taps.empty();
            const int32_t* bias = layer.bias.data() + channel;
            if (layer.taps.empty() || (!fused && !skips.empty())) {
                for (size_t p = 0; p < positions; ++p) std::copy_n(bias, channels, sums.get() + p * channels);
                for (const DotsSkip& skip : skips)
                    add(skip, piece, channels, std::min(channels, layer.outputs - channel), sums.get());
                bias = nullptr;
            }
            size_t tap = 0;
            for (const auto [last, count] : layer.sweeps) {
                const size_t stride = layer.taps[tap].stride;
                taps.clear();
                for (; tap < last; ++tap) taps.push_back(dots_tap(layer.taps[tap]));
                dots.accumulate(taps.data(), taps.size(), weights, bias, piece.at[stride].data(), positions, vectors,
                                sums.get(), fused && last == layer.taps.size() ? &finish : nullptr);
                weights += count * vectors;
                bias = nullptr;
            }
            if (wide != nullptr) {
                dots.requantise_wide(sums.get(), positions, vectors, finish.how, sums.get());
                const size_t count = std::min(channels, layer.outputs - channel), width = width_ * layer.rate;
                for (size_t p = 0; p < piece.places.size(); ++p)
                    std::copy_n(sums.get() + p * channels, count,
                                wide + (piece.places[p].row * width + piece.places[p].column) * layer.outputs + channel);
            } else {
                if (!fused) dots.requantise(sums.get(), positions, vectors, finish.how, block.get());
                if (!fused && layer.gate)
                    close(finish.gate, piece, channels, std::min(channels, layer.outputs - channel), block.get());
                if (!fused || finish.outputs == block.get()) store(layer, piece, block.get(), channel, channels, *plane);
            }
        }
    }

    // The same by squares of positions.
    void by_squares(const NetLayer& layer, const Piece& piece, Plane& plane) const {
        const Dots& dots = *layer.dots;
        const Winograd& winograd = *layer.winograd;
        const uint32_t* numbers = plan_.numbers.data();
        Winograd::Sums sums(winograd, piece.squares.size());
        std::optional<Winograd::Sums> low;  // of the low parts of values, if those must be taken apart
        if (!winograd.compute(planes_, piece.squares, numbers, sums)) {
            winograd.compute_part(ValuePart::high, planes_, piece.squares, numbers, sums);
            low.emplace(winograd, piece.squares.size());
            winograd.compute_part(ValuePart::low, planes_, piece.squares, numbers, *low);
        }
        const size_t most = std::min(dots.vectors, layer.vectors) * dots.lanes;
        const std::unique_ptr<int16_t[]> block(new int16_t[piece.at[1].size() * most]);
        for (size_t first = 0; first < layer.vectors; first += dots.vectors) {
            const size_t vectors = std::min(dots.vectors, layer.vectors - first), channel = first * dots.lanes;
            const size_t channels = vectors * dots.lanes;
            const DotsFinish finish = finish_of(layer, piece, channel, channels, {}, &plane, block.get());
            dots.finish_squares(sums.block(first), low ? low->block(first) : nullptr, sums.apart(vectors),
                                piece.places.size() / 4, vectors, layer.bias.data() + channel, finish);
            if (finish.outputs == block.get()) store(layer, piece, block.get(), channel, channels, plane);
        }
    }

    // Where the outputs of a block of channels go: to their places at once, or to `block`, from which `store` takes them.
    DotsFinish finish_of(const NetLayer& layer, const Piece& piece, size_t channel, size_t channels,
                         const std::vector<DotsSkip>& skips, Plane* plane, int16_t* block) const {
        const Requantisation how{layer.shift.data() + channel, layer.low.data() + channel, layer.high.data() + channel,
                                 layer.leak};
        DotsGate gate;
        if (layer.gate) {  // an input, that nothing writes any more: vectors may read on into the next position or the border
            const Plane& source = *planes_[*layer.gate];
            gate = {source.data() + source.position(0, 0) * source.stride() + channel, source.stride()};
        }
        const uint32_t* at = piece.at[1].data();
        const size_t side = layer.shuffle, place = plane == nullptr ? 0 : channel / plane->channels();
        if (plane != nullptr && (side == 1 ? channel + channels <= plane->stride() : layer.blocks_stay_together()))
            return {how, skips.data(), skips.size(), gate, at,
                    plane->data() + plane->position(place / side, place % side) * plane->stride() + channel % plane->channels(),
                    plane->stride(), piece.at[side].data()};
        return {how, skips.data(), skips.size(), gate, at, block, channels, plan_.numbers.data()};
    }

    // The outputs of a block of channels from `first` to their places, of which a pixel shuffle gives each position some.
    static void store(const NetLayer& layer, const Piece& piece, const int16_t* block, size_t first, size_t channels,
                      Plane& result) {
        const size_t last = std::min(first + channels, layer.outputs), each = result.channels(), side = layer.shuffle;
        // From the end, as of positions that are the same place the first of a square counts.
        for (size_t p = piece.places.size(); p-- > 0;) {
            const Piece::Place at = piece.places[p];
            const int16_t* outputs = block + p * channels;
            for (size_t c = first; c < last;) {
                const size_t place = c / each, count = std::min(last, (place + 1) * each) - c;
                const size_t to = result.position(at.row * side + place / side, at.column * side + place % side);
                std::memcpy(result.data() + to * result.stride() + c % each, outputs + (c - first), 2 * count);
                c += count;
            }
        }
    }

    const NetPlan& plan_;
    size_t height_ = 0, width_ = 0;
    std::vector<std::shared_ptr<const Plane>> planes_;  // of each tensor, but for
    std::vector<Memory> wide_;                          // wide ones: (height, width, channels)
};

}  // namespace

std::vector<NetOutput> IntegerNet::run(const std::vector<NetInput>& inputs) const {
    const NetRun run(*plan_, inputs);
    std::vector<NetOutput> outputs;
    for (const OutputSpec& spec : plan_->outputs) outputs.push_back(run.output(spec));
    return outputs;
}

}  // namespace basic
