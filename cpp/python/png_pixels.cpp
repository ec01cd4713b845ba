// Python binding of the pixels of a PNG: the array is checked, never converted, and kept, the GIL is
// released.
#include "basic/png_pixels.hpp"

#include <mutex>

#include "bindings.hpp"
#include "released.hpp"

namespace {

basic::PngSamples samples_of(const py::array& samples) {
    if (samples.ndim() != 2 && samples.ndim() != 3)
        throw py::value_error("samples must have shape (h, w) or (h, w, c)");
    const size_t rows = static_cast<size_t>(samples.shape(0)),
                 columns = static_cast<size_t>(samples.shape(1));
    const size_t channels = samples.ndim() == 2 ? 1 : static_cast<size_t>(samples.shape(2));
    return {input<uint8_t>(samples, "samples").data(), rows, columns, channels,
            static_cast<ptrdiff_t>(columns * channels)};
}

// An iterator. The mutex keeps two threads that share it from corrupting it.
class PyPngPixels {
  public:
    PyPngPixels(py::array samples, size_t threads)
        : samples_(std::move(samples)), pixels_(samples_of(samples_), threads) {}

    py::bytes next() {
        std::vector<uint8_t> part;
        {
            const basic::Released released;
            const std::lock_guard lock(mutex_);
            if (!pixels_.done()) part = pixels_.next();
        }
        if (part.empty()) throw py::stop_iteration();
        return {reinterpret_cast<const char*>(part.data()), part.size()};
    }

  private:
    py::array samples_;
    std::mutex mutex_;
    basic::PngPixels pixels_;
};

}  // namespace

void bind_png_pixels(py::module_& module) {
    using namespace py::literals;
    py::class_<PyPngPixels>(module, "PngPixels")
        .def(py::init<py::array, size_t>(), "samples"_a, "threads"_a = 1)
        .def("__iter__", [](PyPngPixels& self) -> PyPngPixels& { return self; })
        .def("__next__", &PyPngPixels::next);
}
