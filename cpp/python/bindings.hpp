// What the parts of the Python binding share: checks of arrays.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>

namespace py = pybind11;

void bind_convert(py::module_& module);
void bind_integer_net(py::module_& module);
void bind_png_pixels(py::module_& module);
void bind_search(py::module_& module);

template <typename T>
std::string dtype_name() {
    return py::cast<std::string>(py::str(py::dtype::of<T>()));
}

template <typename T>
bool has_dtype(const py::array& array) {
    return py::isinstance<py::array_t<T>>(array);
}

// Values that lie across the boundaries of their type are undefined behaviour, and a fault on some processors.
inline void require_aligned(const py::array& array, const char* name) {
    if (!(array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_))
        throw py::value_error(std::string(name) + " must be aligned");
}

// Where the memory begins and ends in which an array's values lie, be they apart or in another order.
inline std::pair<const uint8_t*, const uint8_t*> extent(const py::array& array) {
    const auto* first = static_cast<const uint8_t*>(array.data());
    if (array.size() == 0) return {first, first};
    const uint8_t* last = first;
    for (py::ssize_t axis = 0; axis < array.ndim(); ++axis) {
        const py::ssize_t reach = array.strides(axis) * (array.shape(axis) - 1);
        (reach < 0 ? first : last) += reach;
    }
    return {first, last + array.itemsize()};
}

inline bool overlap(const py::array& one, const py::array& other) {
    const auto [first, last] = extent(one);
    const auto [begin, end] = extent(other);
    return std::less<>{}(first, end) && std::less<>{}(begin, last);
}

// Never converts: a silent copy would cost time on input and lose the result on output.
template <typename T>
void require(const py::array& array, const char* name) {
    if (!has_dtype<T>(array)) throw py::type_error(std::string(name) + " must have dtype " + dtype_name<T>());
    require_aligned(array, name);
    if (!(array.flags() & py::array::c_style))
        throw py::value_error(std::string(name) + " must be C-contiguous");
}

template <typename T>
std::span<const T> input(const py::array& array, const char* name) {
    require<T>(array, name);
    return {static_cast<const T*>(array.data()), static_cast<size_t>(array.size())};
}

template <typename T>
std::span<T> output(py::array& array, const char* name) {
    require<T>(array, name);
    if (!array.writeable()) throw py::value_error(std::string(name) + " is read-only");
    return {static_cast<T*>(array.mutable_data()), static_cast<size_t>(array.size())};
}

template <typename T>
std::span<const T> vector_input(const py::array& array, const char* name) {
    if (array.ndim() != 1) throw py::value_error(std::string(name) + " must have one dimension");
    return input<T>(array, name);
}
