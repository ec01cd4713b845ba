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
                            int lanes) {
    Encoder encoder(tables);
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
                Decoder decoder(tables, bytes);
                if (lanes > 0) CHECK(decoder.lanes() <= lanes);
                for (const Stage& stage : stages) {
                    std::vector<int32_t> out(stage.symbols.size());
                    decoder.get(stage.indexes, std::span<int32_t>(out));
                    CHECK(out == stage.symbols);
                }
                decoder.finish();
            }
}

void test_int16() {
    std::mt19937 random(2);
    const auto tables = sample_rows().make();
    const auto stages = random_stages(random, 5, 3000, tables->rows(), true);
    Encoder encoder(tables);
    for (const Stage& stage : stages) {
        const std::vector<int16_t> narrow(stage.symbols.begin(), stage.symbols.end());
        encoder.put(std::span<const int16_t>(narrow), stage.indexes);
    }
    const auto bytes = encoder.finish(8);
    CHECK(bytes == encode(tables, stages, 8));
    Decoder decoder(tables, bytes);
    for (const Stage& stage : stages) {
        std::vector<int16_t> out(stage.symbols.size());
        decoder.get(stage.indexes, std::span<int16_t>(out));
        CHECK(std::equal(out.begin(), out.end(), stage.symbols.begin()));
    }
    decoder.finish();

    const std::vector<uint8_t> row = {2};
    const auto wide = encode(tables, {{{40000}, row}}, 1);
    std::vector<int16_t> out(1);
    Decoder narrow(tables, wide);
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
              const std::vector<Stage>& stages) {
    try {
        Decoder decoder(tables, bytes);
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

void test_hostile_bytes() {
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
    for (int& flag : ok) threads.emplace_back([&] { flag = survives(tables, bytes, stages); });
    for (std::thread& thread : threads) thread.join();
    CHECK(std::count(ok.begin(), ok.end(), 1) == 4);
}

}  // namespace

int main() {
    test_round_trips();
    test_int16();
    test_empty_and_reuse();
    test_wrong_arguments();
    test_hostile_tables();
    test_hostile_bytes();
    test_shared_tables_in_threads();
    std::puts("coder: all tests passed");
}
