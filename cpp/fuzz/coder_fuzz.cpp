// libFuzzer target: tables, indexes, kernels and stream from the input's bytes. Checks that hostile streams
// only ever raise StreamError and that whatever the encoder writes is read back. Run:
//   coder_fuzz -max_total_time=30
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

#include "basic/coder.hpp"
#include "basic/passes.hpp"

namespace {

// Reads numbers off the front of the input; zeros once it is used up.
class Input {
  public:
    Input(const uint8_t* data, size_t size) : rest_(data, size) {}
    uint32_t number(int bytes) {
        uint32_t value = 0;
        for (; bytes > 0 && !rest_.empty(); --bytes, rest_ = rest_.subspan(1))
            value = value << 8 | rest_.front();
        return value;
    }
    std::vector<uint8_t> bytes(size_t count) {
        count = std::min(count, rest_.size());
        std::vector<uint8_t> result(rest_.begin(), rest_.begin() + static_cast<long>(count));
        rest_ = rest_.subspan(count);
        return result;
    }
    std::span<const uint8_t> rest() const { return rest_; }

  private:
    std::span<const uint8_t> rest_;
};

void expect(bool condition) {
    if (!condition) std::abort();
}

std::shared_ptr<const basic::Tables> make_tables(Input& input) {
    std::vector<uint16_t> freqs, sizes;
    std::vector<int32_t> offsets;
    std::vector<uint8_t> shifts;
    const uint32_t rows = 1 + input.number(1) % 6;
    for (uint32_t row = 0; row < rows; ++row) {
        const uint32_t size = 2 + input.number(1) % 255;
        uint32_t left = 4096 - size;
        for (uint32_t code = 0; code < size; ++code) {
            const uint32_t extra = code + 1 == size ? left : std::min(left, input.number(2) % 4096);
            freqs.push_back(static_cast<uint16_t>(1 + extra));
            left -= extra;
        }
        sizes.push_back(static_cast<uint16_t>(size));
        offsets.push_back(static_cast<int32_t>(input.number(4)));
        shifts.push_back(static_cast<uint8_t>(input.number(1) % 17));
    }
    return std::make_shared<const basic::Tables>(freqs, sizes, offsets, shifts);
}

std::vector<std::vector<uint8_t>> make_indexes(Input& input, size_t rows) {
    std::vector<std::vector<uint8_t>> stages(input.number(1) % 4);
    for (auto& stage : stages) {
        stage = input.bytes(input.number(2) % 600);
        for (uint8_t& index : stage) index = static_cast<uint8_t>(index % rows);
    }
    return stages;
}

const basic::Kernels& pick_kernels(Input& input) {
    const auto kernels = basic::available_kernels();
    return *kernels[input.number(1) % kernels.size()];
}

template <typename T>
void decode_hostile(const std::shared_ptr<const basic::Tables>& tables,
                    const std::vector<std::vector<uint8_t>>& stages, std::span<const uint8_t> bytes,
                    const basic::Kernels& kernels) {
    try {
        basic::Decoder decoder(tables, bytes, kernels);
        for (const auto& stage : stages) {
            std::vector<T> out(stage.size());
            decoder.get(stage, std::span<T>(out));
        }
        decoder.finish();
    } catch (const basic::StreamError&) {
    }
}

// Symbols from the input's bytes; small ones, so that most are inside their rows, and some of any size.
std::vector<int32_t> make_symbols(Input& input, size_t count) {
    std::vector<int32_t> symbols(count);
    for (int32_t& symbol : symbols) {
        const uint32_t kind = input.number(1);
        symbol = kind < 250 ? static_cast<int32_t>(kind % 16) - 8 : static_cast<int32_t>(input.number(4));
    }
    return symbols;
}

void round_trip(const std::shared_ptr<const basic::Tables>& tables,
                const std::vector<std::vector<uint8_t>>& stages, Input input) {
    const int lanes = static_cast<int>(1u << input.number(1) % 7);
    std::vector<std::vector<int32_t>> symbols;
    basic::Encoder encoder(tables, pick_kernels(input));
    for (const auto& stage : stages) {
        symbols.push_back(make_symbols(input, stage.size()));
        encoder.put(std::span<const int32_t>(symbols.back()), stage);
    }
    const std::vector<uint8_t> bytes = encoder.finish(lanes);
    basic::Decoder decoder(tables, bytes, pick_kernels(input));
    for (size_t k = 0; k < stages.size(); ++k) {
        std::vector<int32_t> out(stages[k].size());
        decoder.get(stages[k], std::span<int32_t>(out));
        expect(out == symbols[k]);
    }
    decoder.finish();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    Input input(data, size);
    std::shared_ptr<const basic::Tables> tables;
    try {
        tables = make_tables(input);
    } catch (const std::invalid_argument&) {
        return 0;
    }
    const auto stages = make_indexes(input, tables->rows());
    const basic::Kernels& kernels = pick_kernels(input);
    decode_hostile<int32_t>(tables, stages, input.rest(), kernels);
    decode_hostile<int16_t>(tables, stages, input.rest(), kernels);
    round_trip(tables, stages, input);
    return 0;
}
