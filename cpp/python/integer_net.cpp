// Python binding of IntegerNet: arrays are checked and never converted, the GIL is released.
#include "basic/integer_net.hpp"
#include "basic/pixels.hpp"

#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <optional>
#include <tuple>

#include "bindings.hpp"
#include "released.hpp"

namespace {

using PlanePointer = std::shared_ptr<basic::Plane>;
using TermArgs = std::tuple<size_t, py::array, size_t, size_t, size_t>;
using SkipArgs = std::tuple<size_t, py::array>;
using LayerArgs = std::tuple<std::vector<TermArgs>, py::array, py::array, py::array, py::array, bool, size_t,
                             std::vector<SkipArgs>, std::optional<size_t>>;
using InputArgs = std::tuple<py::array, py::array, py::array, size_t>;
using PartArgs = std::tuple<size_t, size_t, size_t, size_t, size_t, size_t>;
using PhasesArgs = std::tuple<std::vector<std::tuple<py::array, size_t, size_t, size_t>>, size_t, float>;
using OutputArgs = std::tuple<std::vector<PartArgs>, std::optional<float>>;

template <typename T>
std::vector<T> values(const py::array& array, const char* name) {
    const auto span = input<T>(array, name);
    return {span.begin(), span.end()};
}

basic::InputSpec input_spec(const InputArgs& args) {
    const auto& [scale, low, high, rate] = args;
    return {static_cast<size_t>(scale.size()), values<float>(scale, "scale"), values<float>(low, "low"),
            values<float>(high, "high"), rate};
}

basic::TermSpec term_spec(const TermArgs& args) {
    const auto& [source, weights, above, before, stride] = args;
    if (weights.ndim() != 4) throw py::value_error("weights must be (outputs, channels, height, width)");
    return {source, static_cast<size_t>(weights.shape(2)), static_cast<size_t>(weights.shape(3)), above, before,
            values<int16_t>(weights, "weights"), stride};
}

basic::LayerSpec layer_spec(const LayerArgs& args) {
    const auto& [terms, bias, shift, low, high, leak, shuffle, skips, gate] = args;
    basic::LayerSpec spec;
    for (const TermArgs& term : terms) spec.terms.push_back(term_spec(term));
    spec.bias = values<int32_t>(bias, "bias");
    spec.shift = values<int32_t>(shift, "shift");
    spec.low = values<int32_t>(low, "low");
    spec.high = values<int32_t>(high, "high");
    spec.leak = leak;
    spec.shuffle = shuffle;
    for (const auto& [source, by] : skips) spec.skips.push_back({source, values<int32_t>(by, "shift")});
    spec.gate = gate;
    return spec;
}

std::unique_ptr<basic::IntegerNet> make_net(const std::vector<InputArgs>& inputs, const std::vector<LayerArgs>& layers,
                                            const std::vector<OutputArgs>& outputs, size_t threads,
                                            const std::optional<std::string>& kernel) {
    std::vector<basic::InputSpec> input_specs;
    for (const InputArgs& args : inputs) input_specs.push_back(input_spec(args));
    std::vector<basic::LayerSpec> layer_specs;
    for (const LayerArgs& args : layers) layer_specs.push_back(layer_spec(args));
    std::vector<basic::OutputSpec> output_specs;
    for (const auto& [parts, scale] : outputs) {
        output_specs.push_back({{}, !scale, scale.value_or(1)});
        for (const auto& [tensor, first, channels, step, row, column] : parts)
            output_specs.back().parts.push_back({tensor, first, channels, step, row, column});
    }
    const basic::Dots& dots = kernel ? basic::dots_named(*kernel) : basic::default_dots();
    const basic::Released released;
    return std::make_unique<basic::IntegerNet>(std::move(input_specs), std::move(layer_specs), std::move(output_specs),
                                               basic::Workers::of(threads), dots);
}

// int16 whose channels lie side by side, as an array of a plane has them.
bool is_part(const py::array& array) {
    if (!has_dtype<int16_t>(array) || array.strides(2) % 2 != 0 || array.strides(3) % 2 != 0) return false;
    return array.strides(1) == sizeof(int16_t) && array.shape(1) > 1;
}

// Values of rows that lie side by side, as a part of a larger array has them.
template <typename Value>
basic::ArrayInput<Value> array_input(const py::array& array) {
    constexpr py::ssize_t kSize = sizeof(Value);
    if (!has_dtype<Value>(array)) throw py::type_error("inputs must have dtype float32 or int16");
    if (array.size() > 0 && ((array.shape(3) > 1 && array.strides(3) != kSize) || array.strides(1) % kSize != 0 ||
                             array.strides(2) % kSize != 0))
        throw py::value_error("the rows of inputs must be contiguous");
    return {static_cast<const Value*>(array.data()), static_cast<size_t>(array.shape(1)),
            static_cast<size_t>(array.shape(2)), static_cast<size_t>(array.shape(3)), array.strides(1) / kSize,
            array.strides(2) / kSize};
}

void require_tensor(const py::array& array) {
    if (array.ndim() != 4 || array.shape(0) != 1) throw py::value_error("inputs must be (1, channels, height, width)");
    require_aligned(array, "inputs");
}

// Arrays that a run reads, kept for as long: those of a sequence may be there for the moment only.
using Kept = std::vector<py::array>;

basic::PhasesInput phases_input(const PhasesArgs& args, Kept& kept) {
    const auto& [parts, step, unit] = args;
    std::vector<basic::PhasesInput::Phase> phases;
    for (const auto& [array, first, row, column] : parts) {
        require_tensor(array);
        kept.push_back(array);
        if (has_dtype<int16_t>(array))
            phases.push_back({array_input<int16_t>(array), first, row, column});
        else
            phases.push_back({array_input<float>(array), first, row, column});
    }
    return {std::move(phases), step, unit};
}

basic::NetInput net_input(const py::object& value, Kept& kept) {
    if (py::isinstance<basic::Plane>(value)) return std::shared_ptr<const basic::Plane>(value.cast<PlanePointer>());
    if (py::isinstance<py::tuple>(value)) return phases_input(value.cast<PhasesArgs>(), kept);
    if (!py::isinstance<py::array>(value)) throw py::type_error("inputs must be arrays or planes");
    const auto array = value.cast<py::array>();
    require_tensor(array);
    kept.push_back(array);
    if (!is_part(array))
        return has_dtype<int16_t>(array) ? basic::NetInput(array_input<int16_t>(array))
                                         : basic::NetInput(array_input<float>(array));
    return basic::PartInput{static_cast<const int16_t*>(array.data()), static_cast<size_t>(array.shape(1)),
                            static_cast<size_t>(array.shape(2)), static_cast<size_t>(array.shape(3)),
                            array.strides(2) / 2, array.strides(3) / 2};
}

// What keeps memory as long as an array of it lives.
py::capsule owner(basic::Memory memory) {
    return {new basic::Memory(std::move(memory)), [](void* kept) { delete static_cast<basic::Memory*>(kept); }};
}

py::object net_output(basic::NetOutput& output) {
    if (auto* plane = std::get_if<std::shared_ptr<const basic::Plane>>(&output))
        return py::cast(std::const_pointer_cast<basic::Plane>(*plane));  // Python's side only reads it
    auto& floats = std::get<basic::FloatOutput>(output);
    float* data = floats.values.as<float>();
    return py::array_t<float>({size_t{1}, floats.channels, floats.height, floats.width}, data,
                              owner(std::move(floats.values)));
}

// What `work` makes of inputs.
template <typename Work>
py::list run(const std::vector<py::object>& inputs, const Work& work) {
    Kept kept;
    std::vector<basic::NetInput> given;
    for (const py::object& value : inputs) given.push_back(net_input(value, kept));
    std::vector<basic::NetOutput> found;
    {
        const basic::Released released;
        found = work(given);
    }
    py::list result;
    for (basic::NetOutput& output : found) result.append(net_output(output));
    return result;
}

py::list run_net(const basic::IntegerNet& net, const std::vector<py::object>& inputs) {
    return run(inputs, [&](const std::vector<basic::NetInput>& given) { return net.run(given); });
}

py::list advance(basic::NetStream& stream, const std::vector<py::object>& inputs, bool last) {
    return run(inputs, [&](const std::vector<basic::NetInput>& given) { return stream.advance(given, last); });
}

// The plane's own memory as (1, channels, height, width).
py::array plane_array(const py::object& self, const py::object& dtype, const py::object& copy) {
    const auto plane = self.cast<PlanePointer>();
    const auto unit = static_cast<py::ssize_t>(sizeof(int16_t) * plane->stride());
    const std::vector<size_t> shape = {1, plane->channels(), plane->height(), plane->width()};
    const std::vector<py::ssize_t> strides = {
        sizeof(int16_t), sizeof(int16_t), unit * static_cast<py::ssize_t>(plane->position(1, 0) - plane->position(0, 0)),
        unit};
    py::array_t<int16_t> values(shape, strides, plane->data() + plane->position(0, 0) * plane->stride(), self);
    values.attr("flags").attr("writeable") = false;  // other networks read it
    if (!dtype.is_none() && !py::dtype::from_args(dtype).is(values.dtype())) {
        if (!copy.is_none() && !copy.cast<bool>()) throw py::value_error("another dtype takes a copy");
        return values.attr("astype")(dtype);
    }
    return !copy.is_none() && copy.cast<bool>() ? py::array(values.attr("copy")()) : py::array(std::move(values));
}

void require_pixels(const py::array& pixels, size_t size) {
    if (!has_dtype<uint8_t>(pixels)) throw py::type_error("pixels must have dtype uint8");
    if (pixels.ndim() != 3 || pixels.shape(2) != 3 || pixels.strides(2) != 1 || pixels.strides(1) != 3)
        throw py::value_error("pixels must be (height, width, 3), with rows that are contiguous");
    if (size == 0 || size > basic::kMaxPatch || pixels.shape(0) % static_cast<py::ssize_t>(size) != 0 ||
        pixels.shape(1) % static_cast<py::ssize_t>(size) != 0)
        throw py::value_error("patches must be of 1 to 8 rows and columns, which divide those of the pixels");
}

// (1, channels, height, width), the channels of each position side by side.
py::array_t<int16_t> take_patches(const py::array& pixels, size_t size, size_t threads) {
    require_pixels(pixels, size);
    const size_t height = static_cast<size_t>(pixels.shape(0)) / size, width = static_cast<size_t>(pixels.shape(1)) / size;
    const size_t channels = 3 * size * size;
    const auto unit = static_cast<py::ssize_t>(sizeof(int16_t));
    const auto across = unit * static_cast<py::ssize_t>(channels);
    basic::Memory memory(height * width * channels * sizeof(int16_t));
    auto* target = memory.as<int16_t>();
    py::array_t<int16_t> patches({size_t{1}, channels, height, width},
                                 {across * static_cast<py::ssize_t>(height * width), unit,
                                  across * static_cast<py::ssize_t>(width), across},
                                 target, owner(std::move(memory)));
    const auto* source = static_cast<const uint8_t*>(pixels.data());
    const py::ssize_t stride = pixels.strides(0);
    const basic::Released released;
    basic::Workers::of(threads).each(height, [&](size_t row) {
        basic::take_patches(source + static_cast<py::ssize_t>(row * size) * stride, stride, width, size,
                            target + row * width * channels);
    });
    return patches;
}

// uint8 (height, width, 3).
py::array_t<uint8_t> pixels_of_patches(const PlanePointer& plane, size_t size, int bits, size_t threads) {
    if (size == 0 || size > basic::kMaxPatch || plane->channels() != 3 * size * size || bits < 1 || bits > 16)
        throw py::value_error("a plane must have 3 channels for each pixel of a patch, of 1 to 8 rows and columns");
    const std::vector<size_t> shape = {plane->height() * size, plane->width() * size, 3};
    basic::Memory memory(shape[0] * shape[1] * shape[2]);
    auto* target = memory.as<uint8_t>();
    py::array_t<uint8_t> pixels(shape, target, owner(std::move(memory)));
    const py::ssize_t stride = pixels.strides(0);
    const basic::Released released;
    basic::Workers::of(threads).each(plane->height(), [&](size_t row) {
        basic::put_patches(plane->data() + plane->position(row, 0) * plane->stride(), plane->stride(), plane->width(),
                           size, bits, target + static_cast<py::ssize_t>(row * size) * stride, stride);
    });
    return pixels;
}

// A plane of errors, and the sum of their squares; `inside`: first and last row and column of the pixels that count.
py::tuple errors_of_patches(const PlanePointer& plane, const py::array& pixels, size_t size, int bits,
                            const std::array<size_t, 4>& inside, size_t threads) {
    require_pixels(pixels, size);
    if (plane->channels() != 3 * size * size || bits < basic::kErrorBits || bits > 13)
        throw py::value_error("a plane must have 3 channels for each pixel of a patch");
    if (static_cast<size_t>(pixels.shape(0)) != plane->height() * size ||
        static_cast<size_t>(pixels.shape(1)) != plane->width() * size)
        throw py::value_error("pixels must be as many as those of the patches");
    const auto& [top, bottom, left, right] = inside;
    auto errors = std::make_shared<basic::Plane>(plane->channels(), plane->height(), plane->width());
    const auto* bytes = static_cast<const uint8_t*>(pixels.data());
    const py::ssize_t stride = pixels.strides(0);
    uint64_t sum = 0;
    {
        const basic::Released released;
        std::vector<uint64_t> sums(plane->height());
        basic::Workers::of(threads).each(plane->height(), [&](size_t row) {
            const auto within = [&](size_t place) { return place - std::min(place, row * size); };
            sums[row] = basic::take_errors(
                plane->data() + plane->position(row, 0) * plane->stride(), plane->stride(), plane->width(), size, bits,
                bytes + static_cast<py::ssize_t>(row * size) * stride, stride, {within(top), within(bottom), left, right},
                errors->data() + errors->position(row, 0) * errors->stride(), errors->stride());
        });
        sum = std::accumulate(sums.begin(), sums.end(), uint64_t{0});
    }
    return py::make_tuple(py::cast(errors), sum);
}

}  // namespace

void bind_integer_net(py::module_& module) {
    using namespace py::literals;
    py::class_<basic::Plane, PlanePointer>(module, "Plane")
        .def_property_readonly("shape",
                               [](const basic::Plane& plane) {
                                   return py::make_tuple(1, plane.channels(), plane.height(), plane.width());
                               })
        .def("__array__", &plane_array, "dtype"_a = py::none(), "copy"_a = py::none());

    py::class_<basic::IntegerNet>(module, "IntegerNet")
        .def(py::init(&make_net), "inputs"_a, "layers"_a, "outputs"_a, "threads"_a = 1, "kernel"_a = py::none())
        .def("run", &run_net, "inputs"_a)
        .def("stream", [](const basic::IntegerNet& net) { return std::make_unique<basic::NetStream>(net); },
             py::keep_alive<0, 1>())
        .def_property_readonly("bytes", &basic::IntegerNet::bytes)
        .def_property_readonly("kernel", [](const basic::IntegerNet& net) { return net.dots().name; });

    py::class_<basic::NetStream>(module, "NetStream").def("advance", &advance, "inputs"_a, "last"_a);

    module.def("take_patches", &take_patches, "pixels"_a, "size"_a, "threads"_a = 1);
    module.def("pixels_of_patches", &pixels_of_patches, "plane"_a.none(false), "size"_a, "bits"_a, "threads"_a = 1);
    module.def("errors_of_patches", &errors_of_patches, "plane"_a.none(false), "pixels"_a, "size"_a, "bits"_a, "inside"_a,
               "threads"_a = 1);
    module.attr("ERROR_BITS") = basic::kErrorBits;
    module.def("default_dots_kernel", [] { return basic::default_dots().name; });
    module.def("dots_kernels", [] {
        std::vector<std::string> names;
        for (const basic::Dots* dots : basic::available_dots()) names.emplace_back(dots->name);
        return names;
    });
}
