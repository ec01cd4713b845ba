// What comes into a network and out of it.
#include <algorithm>
#include <cstring>
#include <string>
#include <tuple>
#include <type_traits>

#include "basic/convert.hpp"
#include "net_work.hpp"

namespace basic {
namespace {

constexpr size_t kMaxSide = 1 << 20;

// Puts a network's inputs into rows of a plane from `row` on.
class Reader {
  public:
    Reader(const InputSpec& spec, Plane& plane, size_t row, Workers& workers)
        : spec_(spec),
          plane_(plane),
          row_(row),
          workers_(workers),
          stride_(static_cast<std::ptrdiff_t>(plane.stride())),
          across_(stride_ * static_cast<std::ptrdiff_t>(plane.across())) {}

    void operator()(const std::shared_ptr<const Plane>& plane) const {
        const auto stride = static_cast<std::ptrdiff_t>(plane->stride());
        (*this)(PartInput{plane->at(0, 0), plane->channels(), plane->height(), plane->width(),
                          static_cast<std::ptrdiff_t>(plane->across()) * stride, stride});
    }

    void operator()(const PartInput& input) const {
        if (spec_.plain()) {
            convert(input.values, plane_.at(row_, 0),
                    {{input.height, input.row_stride, across_},
                     {input.width, input.column_stride, stride_},
                     {input.channels, 1, 1}},
                    1, workers_);
            return;
        }
        workers_.each(input.height, [&](size_t y) {
            const int16_t* from = input.values + static_cast<std::ptrdiff_t>(y) * input.row_stride;
            int16_t* to = plane_.at(row_ + y, 0);
            for (size_t x = 0; x < input.width; ++x, from += input.column_stride, to += stride_)
                put_together(from, spec_, to);
        });
    }

    template <typename Value>
    void operator()(const ArrayInput<Value>& input) const {
        workers_.each(input.height, [&](size_t y) {
            put_together(input.values + static_cast<std::ptrdiff_t>(y) * input.row_stride,
                         input.channel_stride, input.width, spec_, plane_.at(row_ + y, 0), plane_.stride());
        });
    }

    void operator()(const PhasesInput& input) const {
        std::vector<InputSpec> specs;
        for (const PhasesInput::Phase& phase : input.phases)
            specs.push_back(spec_.part(
                phase.first, std::visit([](const auto& v) { return v.channels; }, phase.values), input.unit));
        const size_t rows = every(input.height, 0, input.step);  // of the highest part
        workers_.each(input.phases.size() * rows, [&](size_t piece) {
            const PhasesInput::Phase& phase = input.phases[piece / rows];
            const size_t y = piece % rows, to = y * input.step + phase.row;
            if (to >= input.height) return;
            std::visit(
                [&](const auto& part) {
                    put_together(part.values + static_cast<std::ptrdiff_t>(y) * part.row_stride,
                                 part.channel_stride, part.width, specs[piece / rows],
                                 plane_.at(row_ + to, phase.column) + phase.first,
                                 input.step * plane_.stride());
                },
                phase.values);
        });
    }

  private:
    const InputSpec& spec_;
    Plane& plane_;
    size_t row_;
    Workers& workers_;
    std::ptrdiff_t stride_, across_;
};

}  // namespace

std::array<size_t, 2> NetWork::size_of(const std::vector<NetInput>& inputs) const {
    if (inputs.size() != plan_.inputs.size())
        throw NetError("a network was given too few or too many inputs");
    size_t rows = 0, columns = 0;
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
        if (k == 0) rows = height / rate, columns = width / rate;
        if (channels != plan_.inputs[k].channels || height != rows * rate || width != columns * rate)
            throw NetError("input " + std::to_string(k) +
                           " of a network has other channels, rows or columns");
    }
    if (rows == 0 || columns == 0 || rows > kMaxSide || columns > kMaxSide)
        throw NetError("the inputs of a network have no rows or columns, or too many");
    // Lists of positions are of uint32_t.
    const size_t rate = *std::max_element(plan_.rates.begin(), plan_.rates.end());
    if ((rows * rate + 2 * kBorder) * (columns * rate + 2 * kBorder) > UINT32_MAX)
        throw NetError("the inputs of a network have too many rows and columns");
    return {rows, columns};
}

void NetWork::read(const InputSpec& spec, const NetInput& input, Plane& plane, size_t row) const {
    std::visit(Reader(spec, plane, row, plan_.workers), input);
}

bool NetWork::is_whole(const OutputSpec& spec) const {
    const PartSpec& part = spec.parts[0];
    return spec.plane && spec.parts.size() == 1 && part.step == 1 &&
           part.channels == plan_.channels[part.tensor];
}

NetOutput NetWork::output(const OutputSpec& spec, size_t first, size_t last) const {
    const PartSpec& start = spec.parts[0];
    const size_t columns = width_ * plan_.rates[start.tensor];
    const size_t height = every(last - first, start.row, start.step),
                 width = every(columns, start.column, start.step);
    size_t channels = 0;
    for (const PartSpec& part : spec.parts) {
        channels += part.channels;
        // Phases of a size that the step does not divide differ.
        if (every(last - first, part.row, part.step) != height ||
            every(columns, part.column, part.step) != width)
            throw NetError("the parts of an output differ in size");
    }
    return spec.plane ? plane(spec, channels, first, height, width)
                      : floats(spec, channels, first, height, width);
}

NetOutput NetWork::plane(const OutputSpec& spec, size_t channels, size_t first, size_t height,
                         size_t width) const {
    auto result = std::make_shared<Plane>(channels, height, width);
    plan_.workers.each(height, [&](size_t y) {
        size_t channel = 0;
        for (const PartSpec& part : spec.parts) {
            const auto& [source, top] = rows_[part.tensor];
            for (size_t x = 0; x < width; ++x)
                std::memcpy(result->at(y, x) + channel,
                            source->at(first - top + part.row + y * part.step, part.column + x * part.step) +
                                part.first,
                            2 * part.channels);
            channel += part.channels;
        }
    });
    return result;
}

NetOutput NetWork::floats(const OutputSpec& spec, size_t channels, size_t first, size_t height,
                          size_t width) const {
    FloatOutput result{Memory(channels * height * width * sizeof(float)), channels, height, width};
    plan_.workers.each(height, [&](size_t y) {
        float* out = result.values.as<float>() + y * width;
        for (const PartSpec& part : spec.parts) {
            const size_t row = part.row + y * part.step, stride = plan_.channels[part.tensor];
            const auto& [source, top] = rows_[part.tensor];
            if (plan_.wide(part.tensor))
                take_apart(
                    wide_[part.tensor].as<int32_t>() +
                        ((first - top + row) * width_ * plan_.rates[part.tensor] + part.column) * stride +
                        part.first,
                    part.step * stride, part.channels, width, spec.scale, out, height * width);
            else
                take_apart(source->at(first - top + row, part.column) + part.first,
                           part.step * source->stride(), part.channels, width, spec.scale, out,
                           height * width);
            out += part.channels * height * width;
        }
    });
    return result;
}

}  // namespace basic
