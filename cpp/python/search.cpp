// Python binding of what a search does to elements: arrays are checked and never converted, the GIL is released.
#include "basic/search.hpp"

#include "bindings.hpp"
#include "released.hpp"

namespace {

basic::SymbolBits symbol_table(const py::array& bits) {
    const auto values = input<float>(bits, "bits");
    if (bits.ndim() != 2 || bits.shape(0) < 1 || bits.shape(1) % 2 != 1 || bits.shape(1) < 3)
        throw py::value_error("bits must be (rows, 2 largest + 1)");
    return {values.data(), static_cast<size_t>(bits.shape(0)), static_cast<int32_t>(bits.shape(1) / 2)};
}

template <typename Span>
void require_size(const Span& span, size_t size, const char* name) {
    if (span.size() != size) throw py::value_error(std::string(name) + " must be as many as the symbols");
}

double symbol_bits(const py::array& symbols, const py::array& indexes, const py::array& bits, size_t threads) {
    const auto values = input<int32_t>(symbols, "symbols");
    const auto rows = input<uint8_t>(indexes, "indexes");
    require_size(rows, values.size(), "indexes");
    const basic::SymbolBits table = symbol_table(bits);
    const basic::Released released;
    return basic::symbol_bits(values, rows, table, threads);
}

py::array_t<float> random_by_key(const py::array& keys, uint32_t salt) {
    const auto given = input<uint32_t>(keys, "keys");
    py::array_t<float> numbers(std::vector<py::ssize_t>(keys.shape(), keys.shape() + keys.ndim()));
    float* out = numbers.mutable_data();
    const basic::Released released;
    for (size_t k = 0; k < given.size(); ++k) out[k] = basic::random_of(given[k], salt);
    return numbers;
}

py::array_t<int8_t> search_moves(const py::array& symbols, const py::array& indexes, const py::array& slope,
                                 const py::array& keys, const py::array& bits, py::array& curvature, py::array& moves,
                                 float weight, float caution, float stiffer, float share, uint32_t salt, size_t threads) {
    const basic::SearchElements elements{input<int32_t>(symbols, "symbols"), input<uint8_t>(indexes, "indexes"),
                                         input<float>(slope, "slope"), input<uint32_t>(keys, "keys")};
    const size_t count = elements.symbols.size();
    require_size(elements.indexes, count, "indexes");
    require_size(elements.slope, count, "slope");
    require_size(elements.keys, count, "keys");
    const auto stiffness = output<float>(curvature, "curvature");
    require_size(stiffness, count, "curvature");
    const auto last = output<int8_t>(moves, "moves");
    require_size(last, count, "moves");
    py::array_t<int8_t> steps(std::vector<py::ssize_t>(symbols.shape(), symbols.shape() + symbols.ndim()));
    const std::span<int8_t> found{steps.mutable_data(), count};
    const basic::SymbolBits table = symbol_table(bits);
    {
        const basic::Released released;
        basic::search_moves(elements, table, {weight, caution, stiffer, share, salt}, stiffness, last, found, threads);
    }
    return steps;
}

}  // namespace

void bind_search(py::module_& module) {
    using namespace py::literals;
    module.def("symbol_bits", &symbol_bits, "symbols"_a, "indexes"_a, "bits"_a, "threads"_a = 1);
    module.def("random_by_key", &random_by_key, "keys"_a, "salt"_a);
    module.def("search_moves", &search_moves, "symbols"_a, "indexes"_a, "slope"_a, "keys"_a, "bits"_a, "curvature"_a,
               "moves"_a, py::kw_only(), "weight"_a, "caution"_a, "stiffer"_a, "share"_a, "salt"_a, "threads"_a = 1);
}
