// Tests of the coder; built with the address and undefined-behaviour sanitizers in CI.
#include "basic/coder.hpp"

#include <algorithm>
#include <limits>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "check.hpp"

namespace {

using basic::Decoder;
using basic::Encoder;
using basic::Kernels;
using basic::StreamError;
using basic::Tables;

constexpr int32_t kMin = std::numeric_limits<int32_t>::min();
constexpr int32_t kMax = std::numeric_limits<int32_t>::max();

struct Rows {
    std::vector<uint16_t> freqs, sizes;
    std::vector<int32_t> offsets;
    std::vector<uint8_t> shifts;

    void add(std::vector<uint16_t> row, int32_t offset, uint8_t shift = 0) {
        freqs.insert(freqs.end(), row.begin(), row.end());
        sizes.push_back(static_cast<uint16_t>(row.size()));
        offsets.push_back(offset);
        shifts.push_back(shift);
    }
    std::shared_ptr<const Tables> make() const {
        return std::make_shared<const Tables>(freqs, sizes, offsets, shifts);
    }
};

// Extremes on purpose: near-certain, escape only one slot, 256 codes, raw bits, the ends of int32.
Rows sample_rows() {
    Rows rows;
    rows.add({4095, 1}, 0);
    rows.add({1, 4095}, 7);
    rows.add({100, 3000, 900, 96}, -1);
    rows.add(std::vector<uint16_t>(256, 16), -128);
    rows.add(std::vector<uint16_t>(256, 16), -128, 15);
    rows.add({2048, 2047, 1}, -1, 3);
    rows.add({2000, 2096}, kMax);
    rows.add({2000, 2096}, kMin);
    rows.add({1000, 3096}, kMin >> 4, 4);
    return rows;
}

// Rows like those of a codec: all codes fit 16 bits.
Rows narrow_rows() {
    Rows rows;
    rows.add({100, 3000, 900, 96}, -1);
    rows.add({2048, 2047, 1}, -1, 3);
    rows.add({100, 3000, 900, 96}, -1);
    return rows;
}

struct Stage {
    std::vector<int32_t> symbols;
    std::vector<uint8_t> indexes;
};

std::vector<Stage> random_stages(std::mt19937& random, size_t stages, size_t largest, size_t rows,
                                 bool int16) {
    std::vector<Stage> result(stages);
    for (Stage& stage : result) {
        const size_t size = random() % (largest + 1);
        for (size_t i = 0; i < size; ++i) {
            const int kind = static_cast<int>(random() % 100);
            int32_t symbol = static_cast<int32_t>(random() % 5) - 2;
            if (kind < 20) symbol = static_cast<int32_t>(random() % 2001) - 1000;
            if (kind < 3) symbol = static_cast<int32_t>(random());
            if (kind == 0) symbol = random() % 2 ? kMin : kMax;
            stage.symbols.push_back(int16 ? static_cast<int16_t>(symbol) : symbol);
            stage.indexes.push_back(static_cast<uint8_t>(random() % rows));
        }
    }
    return result;
}

std::vector<uint8_t> encode(const std::shared_ptr<const Tables>& tables, const std::vector<Stage>& stages,
                            int lanes, const Kernels& kernels = basic::default_kernels()) {
    Encoder encoder(tables, kernels);
    for (const Stage& stage : stages) encoder.put(std::span<const int32_t>(stage.symbols), stage.indexes);
    return encoder.finish(lanes);
}

void test_round_trips() {
    std::mt19937 random(1);
    const auto tables = sample_rows().make();
    for (const int lanes : {0, 1, 2, 4, 8, 16, 32, 64})
        for (const size_t largest : {0, 1, 2, 7, 64, 300, 5000})
            for (const size_t count : {1, 3, 9}) {
                const auto stages = random_stages(random, count, largest, tables->rows(), false);
                const auto bytes = encode(tables, stages, lanes);
                for (const Kernels* kernels : basic::available_kernels()) {
                    CHECK(encode(tables, stages, lanes, *kernels) == bytes);
                    Decoder decoder(tables, bytes, *kernels);
                    if (lanes > 0) CHECK(decoder.lanes() <= lanes);
                    for (const Stage& stage : stages) {
                        std::vector<int32_t> out(stage.symbols.size());
                        decoder.get(stage.indexes, std::span<int32_t>(out));
                        CHECK(out == stage.symbols);
                    }
                    decoder.finish();
                }
            }
}

// 256 rows of small offsets, which take the vector passes, used 64 apart at most, or all at once.
void test_narrow_rows() {
    std::mt19937 random(6);
    Rows rows;
    for (int r = 0; r < 256; ++r) {
        if (r % 3 == 0) rows.add({100, 3000, 900, 96}, r - 128);
        if (r % 3 == 1) rows.add({2048, 2047, 1}, -(r << 6), static_cast<uint8_t>(r % 2 * 2));
        if (r % 3 == 2) rows.add({1, 4094, 1}, basic::RowTables::kNarrow);
    }
    const auto tables = rows.make();
    CHECK(tables->row_tables().narrow);
    for (const unsigned first : {0u, 5u, 100u, 192u})
        for (const unsigned used : {1u, 64u, 65u}) {
            Stage stage;
            for (int i = 0; i < 3001; ++i) {
                const unsigned long row = std::min<unsigned long>(255, first + random() % used);
                stage.indexes.push_back(static_cast<uint8_t>(row));
                const int32_t near = rows.offsets[row] + static_cast<int>(random() % 4);
                const int32_t anything = static_cast<int32_t>(random()) >> (random() % 2 * 16);
                stage.symbols.push_back(random() % 16 ? near : anything);
            }
            const auto bytes = encode(tables, {stage}, 64, basic::kernels_named("scalar"));
            for (const Kernels* kernels : basic::available_kernels()) {
                CHECK(encode(tables, {stage}, 64, *kernels) == bytes);
                Decoder decoder(tables, bytes, *kernels);
                std::vector<int32_t> out(stage.symbols.size());
                decoder.get(stage.indexes, std::span<int32_t>(out));
                CHECK(out == stage.symbols);
                decoder.finish();
            }
        }
}

// One encoding step of every kernel for every frequency, from the states where rounding could go wrong.
void test_every_frequency() {
    for (uint32_t freq = 1; freq < basic::kProbTotal; ++freq) {
        Rows rows;
        rows.add({static_cast<uint16_t>(basic::kProbTotal - freq), static_cast<uint16_t>(freq)}, 0);
        const auto tables = rows.make();
        const basic::EncodeTables encode_tables = tables->encode_tables();
        std::vector<uint16_t> entries(64, 1);
        std::vector<uint32_t> states;
        const auto add = [&](uint64_t state) {
            if (state >= basic::kStateLow && state <= std::numeric_limits<uint32_t>::max())
                states.push_back(static_cast<uint32_t>(state));
        };
        for (const uint64_t quotient :
             {0x10u, 0xfffu, 0x1000u, 0x7ffffu, 0x80000u, 0xffffeu, 0xfffffu, 0x100000u})
            for (const int side : {-1, 0, 1}) add(quotient * freq + static_cast<uint64_t>(int64_t{side}));
        for (const uint64_t state : {0x10000u, 0x7fffffffu, 0x80000000u, 0xffffffffu}) add(state);
        CHECK(!states.empty() && states.size() <= 64);
        states.resize(64, basic::kStateLow);
        uint32_t expected[64];
        for (int lane = 0; lane < 64; ++lane) {
            const uint32_t x = states[lane] >> 20 >= freq ? states[lane] >> 16 : states[lane];
            expected[lane] = (x / freq << basic::kProbBits) + x % freq + basic::kProbTotal - freq;
        }
        for (const Kernels* kernels : basic::available_kernels()) {
            std::vector<uint16_t> words(basic::kWordRoom + 65);
            auto moved = states;
            const size_t next = kernels->encode(encode_tables, 64, entries.data(), 1, moved.data(),
                                                words.data() + basic::kWordRoom, 65);
            CHECK(std::equal(moved.begin(), moved.end(), expected));
            size_t place = next;
            for (const uint32_t state : states)
                if (state >> 20 >= freq)
                    CHECK(words[basic::kWordRoom + place++] == static_cast<uint16_t>(state));
            CHECK(place == 65);
        }
    }
}

void test_kernel_names() {
    CHECK(std::string_view(basic::available_kernels().back()->name) == "scalar");
    for (const Kernels* kernels : basic::available_kernels())
        CHECK(&basic::kernels_named(kernels->name) == kernels);
    CHECK_THROWS(basic::kernels_named("fastest"), basic::KernelError);
    CHECK_THROWS(basic::kernels_named(""), basic::KernelError);
}

void test_int16(const Kernels& kernels, const Rows& rows) {
    std::mt19937 random(2);
    const auto tables = rows.make();
    const auto stages = random_stages(random, 5, 3000, tables->rows(), true);
    Encoder encoder(tables, kernels);
    for (const Stage& stage : stages) {
        const std::vector<int16_t> narrow(stage.symbols.begin(), stage.symbols.end());
        encoder.put(std::span<const int16_t>(narrow), stage.indexes);
    }
    const auto bytes = encoder.finish(8);
    CHECK(bytes == encode(tables, stages, 8));
    Decoder decoder(tables, bytes, kernels);
    for (const Stage& stage : stages) {
        std::vector<int16_t> out(stage.symbols.size());
        decoder.get(stage.indexes, std::span<int16_t>(out));
        CHECK(std::equal(out.begin(), out.end(), stage.symbols.begin()));
    }
    decoder.finish();

    const std::vector<uint8_t> row = {2};
    const auto wide = encode(tables, {{{40000}, row}}, 1);
    std::vector<int16_t> out(1);
    Decoder narrow(tables, wide, kernels);
    CHECK_THROWS(narrow.get(row, std::span<int16_t>(out)), StreamError);
    CHECK_THROWS(narrow.finish(), StreamError);
}

void test_empty_and_reuse() {
    const auto tables = sample_rows().make();
    Encoder encoder(tables);
    const auto empty = encoder.finish();
    CHECK(empty.size() == 5);
    Decoder(tables, empty).finish();
    const std::vector<int32_t> symbols = {1, 2, 3};
    const std::vector<uint8_t> indexes = {2, 3, 4};
    encoder.put(std::span<const int32_t>(symbols), indexes);
    encoder.reset();
    CHECK(encoder.finish() == empty);
    encoder.put(std::span<const int32_t>(symbols), indexes);
    const auto first = encoder.finish();
    encoder.put(std::span<const int32_t>(symbols), indexes);
    CHECK(encoder.finish() == first);
}

void test_wrong_arguments() {
    const auto tables = sample_rows().make();
    Encoder encoder(tables);
    const std::vector<int32_t> symbols = {1, 2};
    const std::vector<uint8_t> good = {0, 1}, bad = {0, 9}, shorter = {0};
    CHECK_THROWS(encoder.put(std::span<const int32_t>(symbols), bad), std::invalid_argument);
    CHECK_THROWS(encoder.put(std::span<const int32_t>(symbols), shorter), std::invalid_argument);
    for (const int lanes : {-1, 3, 65, 128}) CHECK_THROWS(encoder.finish(lanes), std::invalid_argument);
    encoder.put(std::span<const int32_t>(symbols), good);
    const auto bytes = encoder.finish();
    Decoder decoder(tables, bytes);
    std::vector<int32_t> out(2);
    CHECK_THROWS(decoder.get(bad, std::span<int32_t>(out)), std::invalid_argument);
    CHECK_THROWS(decoder.get(shorter, std::span<int32_t>(out)), std::invalid_argument);
    decoder.get(good, std::span<int32_t>(out));  // refused arguments consumed nothing
    CHECK(out == symbols);
    decoder.finish();
}

void test_hostile_tables() {
    const auto refused = [](std::vector<uint16_t> row, int32_t offset, uint8_t shift) {
        Rows rows;
        rows.add(std::move(row), offset, shift);
        CHECK_THROWS(rows.make(), std::invalid_argument);
    };
    refused({4096}, 0, 0);
    refused({}, 0, 0);
    refused({4095, 2}, 0, 0);
    refused({4000, 95}, 0, 0);
    refused({4096, 0}, 0, 0);
    refused({65535, 1}, 0, 0);
    refused(std::vector<uint16_t>(512, 8), 0, 0);
    refused({4095, 1}, 0, 16);
    refused({4095, 1}, 0, 255);
    refused({4094, 1, 1}, kMax, 0);
    refused({4095, 1}, kMin, 1);
    refused({4095, 1}, kMax, 15);
    Rows rows = sample_rows();
    rows.sizes[0] = 3;
    CHECK_THROWS(rows.make(), std::invalid_argument);
    rows = sample_rows();
    rows.shifts.pop_back();
    CHECK_THROWS(rows.make(), std::invalid_argument);
    CHECK_THROWS(Rows().make(), std::invalid_argument);
    Rows many;
    for (int i = 0; i < 257; ++i) many.add({4095, 1}, 0);
    CHECK_THROWS(many.make(), std::invalid_argument);
}

// Decodes bytes that may be anything: a StreamError or symbols, nothing else.
bool survives(const std::shared_ptr<const Tables>& tables, const std::vector<uint8_t>& bytes,
              const std::vector<Stage>& stages, const Kernels& kernels) {
    try {
        Decoder decoder(tables, bytes, kernels);
        for (const Stage& stage : stages) {
            std::vector<int32_t> out(stage.indexes.size());
            decoder.get(stage.indexes, std::span<int32_t>(out));
        }
        decoder.finish();
        return true;
    } catch (const StreamError&) {
        return false;
    }
}

void test_hostile_bytes(const Kernels& kernels) {
    const auto survives = [&](const auto& tables, const std::vector<uint8_t>& bytes, const auto& stages) {
        return ::survives(tables, bytes, stages, kernels);
    };
    std::mt19937 random(3);
    const auto tables = sample_rows().make();
    for (const int lanes : {1, 2, 8, 64}) {
        const auto stages = random_stages(random, 3, 200, tables->rows(), false);
        const auto bytes = encode(tables, stages, lanes);
        CHECK(survives(tables, bytes, stages));
        for (size_t length = 0; length < bytes.size(); ++length)
            CHECK(!survives(tables, {bytes.begin(), bytes.begin() + static_cast<long>(length)}, stages));
        for (size_t i = 0; i < bytes.size() * 8; ++i) {
            auto flipped = bytes;
            flipped[i / 8] ^= static_cast<uint8_t>(1 << i % 8);
            survives(tables, flipped, stages);
        }
        for (const uint8_t extra : {0, 255}) {
            auto extended = bytes;
            extended.push_back(extra);
            CHECK(!survives(tables, extended, stages));
            extended.push_back(extra);
            CHECK(!survives(tables, extended, stages));
        }
        auto fewer = stages, more = stages;
        fewer.back().indexes.pop_back();
        CHECK(!survives(tables, bytes, fewer));
        more.back().indexes.push_back(0);
        CHECK(!survives(tables, bytes, more));
    }
    for (int i = 0; i < 3000; ++i) {
        std::vector<uint8_t> noise(random() % 400);
        for (uint8_t& byte : noise) byte = static_cast<uint8_t>(random());
        if (!noise.empty()) noise[0] &= 15;
        survives(tables, noise, random_stages(random, 2, 300, tables->rows(), false));
    }
}

void test_shared_tables_in_threads() {
    std::mt19937 random(4);
    const auto tables = sample_rows().make();
    const auto stages = random_stages(random, 2, 20000, tables->rows(), false);
    const auto bytes = encode(tables, stages, 0);
    std::vector<int> ok(4);
    std::vector<std::thread> threads;
    for (int& flag : ok)
        threads.emplace_back([&] { flag = survives(tables, bytes, stages, basic::default_kernels()); });
    for (std::thread& thread : threads) thread.join();
    CHECK(std::count(ok.begin(), ok.end(), 1) == 4);
}

}  // namespace

// With "threads" only what threads share, for the sanitizer that looks at that and makes all else slow.
int main(int count, char** arguments) {
    if (count > 1 && std::string(arguments[1]) == "threads") {
        test_shared_tables_in_threads();
        return 0;
    }
    test_kernel_names();
    test_round_trips();
    test_narrow_rows();
    test_every_frequency();
    for (const Kernels* kernels : basic::available_kernels()) {
        test_int16(*kernels, sample_rows());
        test_int16(*kernels, narrow_rows());
        test_hostile_bytes(*kernels);
    }
    test_empty_and_reuse();
    test_wrong_arguments();
    test_hostile_tables();
    test_shared_tables_in_threads();
    std::puts("coder: all tests passed");
}
