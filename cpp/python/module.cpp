// Python binding of the coder and the passes: checks arrays, releases the GIL, turns C++ errors into Python ones. No copies of arrays.
#include <pybind11/stl.h>

#include <algorithm>
#include <initializer_list>
#include <mutex>
#include <optional>
#include <string>

#include "basic/checksum.hpp"
#include "basic/coder.hpp"
#include "basic/passes.hpp"
#include "basic/pixels.hpp"
#include "basic/post_filter.hpp"
#include "basic/workers.hpp"
#include "bindings.hpp"
#include "released.hpp"

namespace {

// Before spans are cut in shares: each pass checks its own again.
void require_sizes(size_t size, std::initializer_list<size_t> others) {
    for (const size_t other : others)
        if (other != size) throw py::value_error("arrays differ in size");
}

std::vector<py::ssize_t> shape_of(const py::array& array) {
    return {array.shape(), array.shape() + array.ndim()};
}

std::shared_ptr<basic::Tables> make_tables(const py::array& freqs, const py::array& sizes,
                                           const py::array& offsets, const py::array& shifts) {
    return std::make_shared<basic::Tables>(
        vector_input<uint16_t>(freqs, "freqs"), vector_input<uint16_t>(sizes, "sizes"),
        vector_input<int32_t>(offsets, "offsets"), vector_input<uint8_t>(shifts, "shifts"));
}

const basic::Kernels& pick_kernels(const std::optional<std::string>& name) {
    return name ? basic::kernels_named(*name) : basic::default_kernels();
}

std::vector<std::string> kernel_names() {
    std::vector<std::string> names;
    for (const basic::Kernels* kernels : basic::available_kernels()) names.emplace_back(kernels->name);
    return names;
}

// The mutex keeps two Python threads that share an object from corrupting it while the GIL is released.
class PyEncoder {
  public:
    PyEncoder(std::shared_ptr<basic::Tables> tables, const std::optional<std::string>& kernel)
        : encoder_(std::move(tables), pick_kernels(kernel)) {}

    void put(const py::array& symbols, const py::array& indexes) {
        const auto rows = input<uint8_t>(indexes, "indexes");
        if (has_dtype<int16_t>(symbols))
            put_stage(input<int16_t>(symbols, "symbols"), rows);
        else if (has_dtype<int32_t>(symbols))
            put_stage(input<int32_t>(symbols, "symbols"), rows);
        else
            throw py::type_error("symbols must have dtype int16 or int32");
    }

    py::bytes finish(int lanes) {
        std::vector<uint8_t> bytes;
        {
            const basic::Released released;
            const std::lock_guard lock(mutex_);
            bytes = encoder_.finish(lanes);
        }
        return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    }

    void reset() {
        const basic::Released released;
        const std::lock_guard lock(mutex_);
        encoder_.reset();
    }

    std::string kernel() const { return encoder_.kernels().name; }

  private:
    template <typename T>
    void put_stage(std::span<const T> symbols, std::span<const uint8_t> rows) {
        const basic::Released released;
        const std::lock_guard lock(mutex_);
        encoder_.put(symbols, rows);
    }

    std::mutex mutex_;
    basic::Encoder encoder_;
};

class PyDecoder {
  public:
    PyDecoder(std::shared_ptr<basic::Tables> tables, const py::buffer& data,
              const std::optional<std::string>& kernel)
        : PyDecoder(std::move(tables), data.request(), kernel) {}

    py::array get(const py::array& indexes, std::optional<py::array> out) {
        const auto rows = input<uint8_t>(indexes, "indexes");
        // Rows are checked once, and must not change as symbols are written.
        if (out && overlap(indexes, *out)) throw py::value_error("out overlaps indexes");
        py::array result = out ? *out : py::array(py::dtype::of<int32_t>(), shape_of(indexes));
        if (has_dtype<int16_t>(result))
            get_stage(rows, output<int16_t>(result, "out"));
        else if (has_dtype<int32_t>(result))
            get_stage(rows, output<int32_t>(result, "out"));
        else
            throw py::type_error("out must have dtype int16 or int32");
        return result;
    }

    void finish() {
        const basic::Released released;
        const std::lock_guard lock(mutex_);
        decoder_.finish();
    }

    int lanes() const { return decoder_.lanes(); }
    std::string kernel() const { return decoder_.kernels().name; }

  private:
    // The bytes are the exporter's only as long as `info` is there: the decoder has copied them by then.
    PyDecoder(std::shared_ptr<basic::Tables> tables, const py::buffer_info& info, const std::optional<std::string>& kernel)
        : decoder_(std::move(tables), contiguous_bytes(info), pick_kernels(kernel)) {}

    static std::span<const uint8_t> contiguous_bytes(const py::buffer_info& info) {
        py::ssize_t stride = info.itemsize;
        for (py::ssize_t axis = info.ndim; axis-- > 0; stride *= info.shape[axis])
            if (info.shape[axis] > 1 && info.strides[axis] != stride)
                throw py::value_error("data must be contiguous");
        return {static_cast<const uint8_t*>(info.ptr), static_cast<size_t>(info.size * info.itemsize)};
    }

    template <typename T>
    void get_stage(std::span<const uint8_t> rows, std::span<T> out) {
        const basic::Released released;
        const std::lock_guard lock(mutex_);
        decoder_.get(rows, out);
    }

    std::mutex mutex_;
    basic::Decoder decoder_;
};

// CRC-32 of each channel of (C, ...).
py::array_t<uint32_t> crc32_of_channels(const py::array& values, size_t threads) {
    const auto span = input<float>(values, "values");
    if (values.ndim() == 0) throw py::value_error("values must have channels");
    const auto channels = static_cast<size_t>(values.shape(0));
    py::array_t<uint32_t> result(values.shape(0));
    uint32_t* crcs = result.mutable_data();
    const basic::Released released;
    const size_t size = channels == 0 ? 0 : span.size() / channels;
    basic::Workers::of(threads).each(
        channels, [&](size_t c) { crcs[c] = basic::crc32_of_integers(span.subspan(c * size, size)); });
    return result;
}

uint32_t crc32_joined(uint32_t crc, const py::array& parts, uint64_t bytes) {
    return basic::crc32_joined(crc, input<uint32_t>(parts, "parts"), bytes);
}

void crc32_append(py::array crcs, const py::array& more, uint64_t bytes) {
    const auto crcs_span = output<uint32_t>(crcs, "crcs");
    const auto more_span = input<uint32_t>(more, "more");
    require_sizes(crcs_span.size(), {more_span.size()});
    basic::crc32_append(crcs_span, more_span, bytes);
}

constexpr size_t kShare = 1 << 14;  // elements that are worth another thread

// work(first, count) for parts of `size` elements, by as many threads as are worth it.
template <typename Work>
void in_shares(size_t size, size_t threads, const Work& work) {
    basic::Workers& workers = basic::Workers::of(threads);  // refuses what are no threads, however little there is to do
    const size_t parts = std::max<size_t>(1, std::min(threads, size / kShare));
    if (parts == 1) return work(size_t{0}, size);
    workers.each(parts, [&](size_t k) {
        const size_t first = size * k / parts;
        work(first, size * (k + 1) / parts - first);
    });
}

void quantise(const py::array& y, const py::array& mean, const py::array& scale, const py::array& index_lut,
              int mean_bits, py::array symbols, py::array indexes, py::array yhat, size_t threads) {
    const auto y_span = input<float>(y, "y"), mean_span = input<float>(mean, "mean"),
               scale_span = input<float>(scale, "scale");
    const auto lut = input<uint8_t>(index_lut, "index_lut");
    const auto symbols_span = output<int32_t>(symbols, "symbols");
    const auto indexes_span = output<uint8_t>(indexes, "indexes");
    const auto yhat_span = output<float>(yhat, "yhat");
    require_sizes(y_span.size(), {mean_span.size(), scale_span.size(), symbols_span.size(), indexes_span.size(),
                                  yhat_span.size()});
    const basic::Released released;
    in_shares(y_span.size(), threads, [&](size_t first, size_t count) {
        basic::quantise(y_span.subspan(first, count), mean_span.subspan(first, count),
                        scale_span.subspan(first, count), lut, mean_bits, symbols_span.subspan(first, count),
                        indexes_span.subspan(first, count), yhat_span.subspan(first, count));
    });
}

void indexes_from_scale(const py::array& scale, const py::array& index_lut, py::array out, size_t threads) {
    const auto scale_span = input<float>(scale, "scale");
    const auto lut = input<uint8_t>(index_lut, "index_lut");
    const auto out_span = output<uint8_t>(out, "out");
    require_sizes(scale_span.size(), {out_span.size()});
    const basic::Released released;
    in_shares(scale_span.size(), threads, [&](size_t first, size_t count) {
        basic::indexes_from_scale(scale_span.subspan(first, count), lut, out_span.subspan(first, count));
    });
}

void dequantise(const py::array& symbols, const py::array& mean, int mean_bits, py::array out, size_t threads) {
    const auto symbols_span = input<int32_t>(symbols, "symbols");
    const auto mean_span = input<float>(mean, "mean");
    const auto out_span = output<float>(out, "out");
    require_sizes(symbols_span.size(), {mean_span.size(), out_span.size()});
    const basic::Released released;
    in_shares(symbols_span.size(), threads, [&](size_t first, size_t count) {
        basic::dequantise(symbols_span.subspan(first, count), mean_span.subspan(first, count), mean_bits,
                          out_span.subspan(first, count));
    });
}

uint32_t crc32_of_integers(const py::array& values, uint32_t crc, size_t threads) {
    const auto span = input<float>(values, "values");
    const basic::Released released;
    return basic::crc32_of_integers(span, crc, basic::Workers::of(threads));
}

// Parts of larger arrays are welcome: only the innermost values must lie side by side.
template <typename Value>
basic::FloatPlanes<Value> float_planes(const py::array& planes, const py::array& pixels, Value* data) {
    if (!has_dtype<float>(planes)) throw py::type_error("planes must have dtype float32");
    if (!has_dtype<uint8_t>(pixels)) throw py::type_error("pixels must have dtype uint8");
    require_aligned(planes, "planes");
    if (planes.ndim() != 3 || planes.shape(0) != 3 || pixels.ndim() != 3 || pixels.shape(2) != 3 ||
        pixels.shape(0) != planes.shape(1) || pixels.shape(1) != planes.shape(2))
        throw py::value_error("planes must have shape (3, h, w) and pixels (h, w, 3)");
    constexpr py::ssize_t kFloat = sizeof(float);
    const bool empty = pixels.size() == 0;  // whose strides say nothing
    if (!empty && ((planes.shape(2) > 1 && planes.strides(2) != kFloat) || planes.strides(0) % kFloat != 0 ||
                   planes.strides(1) % kFloat != 0))
        throw py::value_error("the rows of planes must be contiguous");
    if (!empty && ((pixels.shape(1) > 1 && pixels.strides(1) != 3) || pixels.strides(2) != 1))
        throw py::value_error("the rows of pixels must be contiguous");
    return {data, planes.strides(0) / kFloat, planes.strides(1) / kFloat, static_cast<size_t>(planes.shape(1)),
            static_cast<size_t>(planes.shape(2))};
}

// work(planes, first row) for shares of the rows.
template <typename Value, typename Work>
void by_rows(const basic::FloatPlanes<Value>& planes, size_t threads, const Work& work) {
    const size_t columns = planes.columns;
    if (columns == 0) return;
    in_shares(planes.rows * columns, threads, [&](size_t first, size_t count) {
        const size_t top = first / columns;
        basic::FloatPlanes<Value> part = planes;
        part.data += static_cast<py::ssize_t>(top) * planes.row_stride;
        part.rows = (first + count) / columns - top;
        work(part, static_cast<py::ssize_t>(top));
    });
}

void to_pixels(const py::array& planes, py::array pixels, size_t threads) {
    const auto source = float_planes(planes, pixels, static_cast<const float*>(planes.data()));
    if (!pixels.writeable()) throw py::value_error("pixels is read-only");
    auto* target = static_cast<uint8_t*>(pixels.mutable_data());
    const py::ssize_t stride = pixels.strides(0);
    const basic::Released released;
    by_rows(source, threads, [&](const basic::FloatPlanes<const float>& part, py::ssize_t top) {
        basic::to_pixels(part, target + top * stride, stride);
    });
}

void from_pixels(const py::array& pixels, py::array planes, size_t threads) {
    if (!planes.writeable()) throw py::value_error("planes is read-only");
    const auto target = float_planes(planes, pixels, static_cast<float*>(planes.mutable_data()));
    const auto* source = static_cast<const uint8_t*>(pixels.data());
    const py::ssize_t stride = pixels.strides(0);
    const basic::Released released;
    by_rows(target, threads, [&](const basic::FloatPlanes<float>& part, py::ssize_t top) {
        basic::from_pixels(source + top * stride, stride, part);
    });
}

// A picture of bytes, uint8 (h, w, 3) or (h, w).
template <typename Byte>
basic::PictureOf<Byte> picture(const py::array& pixels, std::span<Byte> bytes) {
    if (pixels.ndim() != 2 && (pixels.ndim() != 3 || pixels.shape(2) != 3))
        throw py::value_error("pixels must have shape (h, w) or (h, w, 3)");
    const size_t rows = static_cast<size_t>(pixels.shape(0)), columns = static_cast<size_t>(pixels.shape(1));
    const size_t colours = pixels.ndim() == 2 ? 1 : 3;
    return {bytes.data(), static_cast<ptrdiff_t>(columns * colours), rows, columns, colours};
}

void post_filter(py::array pixels, const py::array& weights, size_t threads) {
    const basic::Picture target = picture(pixels, output<uint8_t>(pixels, "pixels"));
    const auto weights_span = input<int8_t>(weights, "weights");
    const basic::Released released;
    basic::post_filter(target, weights_span, threads);
}

py::tuple filter_moments(const py::array& decoded, const py::array& original, size_t first, size_t last,
                         size_t threads) {
    const basic::ConstPicture before = picture(decoded, input<uint8_t>(decoded, "decoded"));
    const basic::ConstPicture wanted = picture(original, input<uint8_t>(original, "original"));
    basic::FilterMoments found;
    {
        const basic::Released released;
        found = basic::filter_moments(before, wanted, first, last, threads);
    }
    const size_t colours = before.colours, count = found.errors.size() / colours;
    return py::make_tuple(py::array_t<int64_t>({count, count}, found.features.data()),
                          py::array_t<int64_t>({count, colours}, found.errors.data()));
}

py::array_t<int8_t> fit_filter(const py::array& features, const py::array& errors, double bits_per_error) {
    const auto products = input<double>(features, "features"), wanted = input<double>(errors, "errors");
    const size_t colours = errors.ndim() == 2 ? static_cast<size_t>(errors.shape(1)) : 0;
    std::vector<int8_t> found;
    {
        const basic::Released released;
        found = basic::fit_filter(products, wanted, colours, bits_per_error);
    }
    return py::array_t<int8_t>({colours, basic::kFilterPairs, colours, size_t{2}}, found.data());
}

}  // namespace

PYBIND11_MODULE(_native, module) {
    using namespace py::literals;
    module.doc() = "Entropy coder, integer networks and element-wise passes of the entropy path (C++).";
    py::register_exception<basic::StreamError>(module, "StreamError", PyExc_ValueError);
    // A wrong environment variable is the user's to mend: commands print these errors in one line.
    py::register_exception<basic::KernelError>(
        module, "KernelError", py::module_::import("basic_runtime.errors").attr("BasicError"));

    py::class_<basic::Tables, std::shared_ptr<basic::Tables>>(module, "Tables")
        .def(py::init(&make_tables), "freqs"_a, "sizes"_a, "offsets"_a, "shifts"_a)
        .def_property_readonly("rows", &basic::Tables::rows);

    py::class_<PyEncoder>(module, "Encoder")
        .def(py::init<std::shared_ptr<basic::Tables>, const std::optional<std::string>&>(),
             "tables"_a.none(false), "kernel"_a = py::none())
        .def("put", &PyEncoder::put, "symbols"_a, "indexes"_a)
        .def("finish", &PyEncoder::finish, "lanes"_a = 0)
        .def("reset", &PyEncoder::reset)
        .def_property_readonly("kernel", &PyEncoder::kernel);

    py::class_<PyDecoder>(module, "Decoder")
        .def(py::init<std::shared_ptr<basic::Tables>, const py::buffer&, const std::optional<std::string>&>(),
             "tables"_a.none(false), "data"_a, "kernel"_a = py::none())
        .def("get", &PyDecoder::get, "indexes"_a, "out"_a = py::none())
        .def("finish", &PyDecoder::finish)
        .def_property_readonly("lanes", &PyDecoder::lanes)
        .def_property_readonly("kernel", &PyDecoder::kernel);

    module.def("kernels", &kernel_names);

    module.def("quantise", &quantise, "y"_a, "mean"_a, "scale"_a, "index_lut"_a, "mean_bits"_a, py::kw_only(),
               "symbols"_a, "indexes"_a, "yhat"_a, "threads"_a = 1);
    module.def("indexes_from_scale", &indexes_from_scale, "scale"_a, "index_lut"_a, "out"_a, "threads"_a = 1);
    module.def("dequantise", &dequantise, "symbols"_a, "mean"_a, "mean_bits"_a, "out"_a, "threads"_a = 1);
    module.def("crc32_of_integers", &crc32_of_integers, "values"_a, "crc"_a = 0, "threads"_a = 1);
    module.def("crc32_of_channels", &crc32_of_channels, "values"_a, "threads"_a = 1);
    module.def("crc32_joined", &crc32_joined, "crc"_a, "parts"_a, "bytes"_a);
    module.def("crc32_append", &crc32_append, "crcs"_a, "more"_a, "bytes"_a);
    module.def("from_pixels", &from_pixels, "pixels"_a, "planes"_a, "threads"_a = 1);
    module.def("to_pixels", &to_pixels, "planes"_a, "pixels"_a, "threads"_a = 1);

    module.def("post_filter", &post_filter, "pixels"_a, "weights"_a, "threads"_a = 1);
    module.def("fit_filter", &fit_filter, "features"_a, "errors"_a, "bits_per_error"_a);
    module.def("filter_moments", &filter_moments, "decoded"_a, "original"_a, "first"_a, "last"_a, "threads"_a = 1);

    bind_convert(module);
    bind_integer_net(module);
    bind_png_pixels(module);
    bind_search(module);
}
