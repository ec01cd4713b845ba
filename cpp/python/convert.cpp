// Python binding of convert: arrays of any strides, the GIL is released.
#include "basic/convert.hpp"

#include <type_traits>
#include <vector>

#include "bindings.hpp"
#include "released.hpp"

namespace {

template <typename Value>
py::ssize_t stride_of(const py::array& array, py::ssize_t axis, const char* name) {
    constexpr py::ssize_t kSize = sizeof(Value);
    if (array.strides(axis) % kSize != 0) throw py::value_error(std::string(name) + " must be aligned");
    return array.strides(axis) / kSize;
}

template <typename From, typename To>
bool convert_as(const py::array& values, py::array& out, float scale, size_t threads) {
    if (!out.writeable()) throw py::value_error("out is read-only");
    if (!std::is_same_v<To, float> && scale != 1) throw py::value_error("integers have no scale");
    std::vector<basic::Axis> axes;
    for (py::ssize_t k = 0; k < values.ndim(); ++k) {
        if (values.shape(k) != out.shape(k)) throw py::value_error("out must have the shape of values");
        axes.push_back({static_cast<size_t>(values.shape(k)), stride_of<From>(values, k, "values"),
                        stride_of<To>(out, k, "out")});
    }
    const auto* from = static_cast<const From*>(values.data());
    auto* to = static_cast<To*>(out.mutable_data());
    basic::Workers& workers = basic::Workers::of(threads);
    const basic::Released released;
    return basic::convert(from, to, std::move(axes), scale, workers);
}

template <typename From>
bool convert_from(const py::array& values, py::array& out, float scale, size_t threads) {
    if (has_dtype<float>(out)) return convert_as<From, float>(values, out, scale, threads);
    if (has_dtype<int16_t>(out)) return convert_as<From, int16_t>(values, out, scale, threads);
    throw py::type_error("out must have dtype float32 or int16");
}

bool convert(const py::array& values, py::array out, float scale, size_t threads) {
    if (values.ndim() != out.ndim()) throw py::value_error("out must have the shape of values");
    require_aligned(values, "values");
    require_aligned(out, "out");
    if (overlap(values, out)) throw py::value_error("out overlaps values");
    if (has_dtype<int16_t>(values)) return convert_from<int16_t>(values, out, scale, threads);
    if (has_dtype<int32_t>(values)) return convert_from<int32_t>(values, out, scale, threads);
    if (has_dtype<float>(values)) return convert_from<float>(values, out, scale, threads);
    if (!has_dtype<uint8_t>(values) || !has_dtype<uint8_t>(out))
        throw py::type_error("values must have dtype int16, int32, float32, or both arrays uint8");
    return convert_as<uint8_t, uint8_t>(values, out, scale, threads);
}

}  // namespace

void bind_convert(py::module_& module) {
    using namespace py::literals;
    module.def("convert", &convert, "values"_a, "out"_a, "scale"_a = 1.0f, "threads"_a = 1);
}
