#include <algorithm>
#include <bit>
#include <cmath>
#include <new>
#include <stdexcept>

#include "basic/coder.hpp"
#include "basic/passes.hpp"
#include "side_bits.hpp"
#include "steps.hpp"
#include "stream_header.hpp"

namespace basic {
namespace {

constexpr size_t kChunk = 1024;        // symbols mapped at a time
constexpr double kBytesPerLane = 600;  // a lane costs about 1 byte, so about 1/600 of the payload at most

// The last symbols of a stream, coded on lane 0 alone; its words become the other lanes' initial states.
struct Tail {
    int lanes;
    size_t body;     // symbols before the tail
    uint32_t state;  // lane 0 after the tail
    uint16_t words[kMaxLanes];
};

Tail encode_tail(const EncodeEntry* entries, const uint16_t* codes, size_t count, int lanes) {
    Tail tail{lanes, count, kStateLow, {}};
    for (;;) {
        const auto wanted = static_cast<size_t>(tail.lanes - 1);
        uint16_t words[kMaxLanes];
        size_t next = kMaxLanes;
        tail.body = count;
        tail.state = kStateLow;
        while (kMaxLanes - next < wanted && tail.body > 0)
            encode_one(tail.state, entries[codes[--tail.body]], words, next);
        if (kMaxLanes - next == wanted) {
            std::copy(words + next, words + kMaxLanes, tail.words);  // lane l starts from words[l - 1]
            return tail;
        }
        tail.lanes = static_cast<int>(std::bit_floor(kMaxLanes - next + 1));
    }
}

void append_words(const uint16_t* words, size_t count, std::vector<uint8_t>& out) {
    if constexpr (std::endian::native == std::endian::little) {
        const auto* bytes = reinterpret_cast<const uint8_t*>(words);
        out.insert(out.end(), bytes, bytes + 2 * count);
    } else {
        for (size_t i = 0; i < count; ++i) {
            out.push_back(static_cast<uint8_t>(words[i]));
            out.push_back(static_cast<uint8_t>(words[i] >> 8));
        }
    }
}

// Entry of a special symbol whose high part is `high`.
uint16_t special_entry(const RowMap& map, Tables::RowEnd end, int32_t high) {
    const uint32_t code = static_cast<uint32_t>(high) - static_cast<uint32_t>(map.offset);
    return static_cast<uint16_t>(map.base + std::min<uint32_t>(code, end.escape));
}

size_t map_symbols(const Kernels& kernels, const RowTables& rows, const int16_t* symbols,
                   const uint8_t* indexes, uint16_t* entries, size_t count, uint16_t* special_at) {
    return kernels.map16(rows, symbols, indexes, entries, count, special_at);
}

size_t map_symbols(const Kernels& kernels, const RowTables& rows, const int32_t* symbols,
                   const uint8_t* indexes, uint16_t* entries, size_t count, uint16_t* special_at) {
    return kernels.map32(rows, symbols, indexes, entries, count, special_at);
}

// Exact value of a symbol outside its row: side of the row, then the distance beyond it as an Elias gamma
// code.
void write_escape(int32_t high, int64_t offset, Tables::RowEnd end, BitWriter& side) {
    const bool below = high < offset;
    const int64_t distance = below ? offset - high : high - offset - end.escape + 1;
    const auto value = static_cast<uint64_t>(distance);  // 1 to 2^32
    const int bits = std::bit_width(value) - 1;
    side.put(below, 1);
    side.put(uint64_t{1} << bits, bits + 1);
    side.put(value ^ uint64_t{1} << bits, bits);
}

// The logarithm by operations that are the same on every machine (CMakeLists.txt keeps compilers from multiplying and
// adding at once): how many lanes a stream has hangs on it. log2 m = 2 / ln 2 (s + s^3 / 3 + ...), s = (m - 1) / (m + 1).
double log2_of(double value) {
    int exponent = 0;
    const double m = std::frexp(value, &exponent), s = (m - 0.75) / (m + 0.75), square = s * s;  // |s| <= 0.2
    double sum = 0;
    for (int k = 23; k > 0; k -= 2) sum = sum * square + 1.0 / k;
    constexpr double kTwoOverLn2 = 2.8853900817779268, kLog2OfMiddle = -0.41503749927884381;
    return exponent + kLog2OfMiddle + kTwoOverLn2 * s * sum;
}

}  // namespace

Encoder::Encoder(std::shared_ptr<const Tables> tables, const Kernels& kernels)
    : tables_(std::move(tables)), kernels_(kernels), side_(std::make_unique<BitWriter>()) {}

Encoder::~Encoder() = default;

template <typename T>
void Encoder::put_stage(std::span<const T> symbols, std::span<const uint8_t> indexes) {
    if (symbols.size() != indexes.size()) throw std::invalid_argument("symbols and indexes differ in size");
    if (!indexes.empty() && largest(indexes) >= tables_->rows())
        throw std::invalid_argument("index beyond the rows of the tables");
    const RowTables& rows = tables_->row_tables();
    const size_t count = symbols.size();
    uint16_t* entries = entries_.grow(count);
    uint16_t special_at[kChunk + kListRoom];
    escapes_.clear();
    for (size_t begin = 0; begin < count; begin += kChunk) {
        const size_t size = std::min(kChunk, count - begin);
        const size_t special =
            map_symbols(kernels_, rows, &symbols[begin], &indexes[begin], entries + begin, size, special_at);
        for (size_t k = 0; k < special; ++k) {
            const size_t i = begin + special_at[k];
            const RowMap& map = rows.maps[indexes[i]];
            const Tables::RowEnd end = tables_->end(indexes[i]);
            side_->put(static_cast<uint32_t>(symbols[i]) & ((1u << end.shift) - 1), end.shift);
            entries[i] = special_entry(map, end, int32_t{symbols[i]} >> end.shift);
            if (entries[i] == map.base + end.escape) escapes_.push_back(i);
        }
    }
    for (const size_t i : escapes_) {
        const Tables::RowEnd end = tables_->end(indexes[i]);
        write_escape(int32_t{symbols[i]} >> end.shift, rows.maps[indexes[i]].offset, end, *side_);
    }
    stage_sizes_.push_back(count);
    entries_.commit(count);
}

// A stage that is there in part would make a stream that decodes to something else.
template <typename Work>
void Encoder::whole_or_nothing(Work work) {
    try {
        work();
    } catch (const std::bad_alloc&) {
        reset();
        throw;
    }
}

void Encoder::put(std::span<const int16_t> symbols, std::span<const uint8_t> indexes) {
    whole_or_nothing([&] { put_stage(symbols, indexes); });
}

void Encoder::put(std::span<const int32_t> symbols, std::span<const uint8_t> indexes) {
    whole_or_nothing([&] { put_stage(symbols, indexes); });
}

double Encoder::payload_estimate() const {
    const PackedEntry* packed = tables_->encode_tables().packed;
    const size_t count = entries_.size();
    const size_t stride = count / 4096 + 1;
    double bits = 0, product = 1;
    size_t samples = 0;
    for (size_t i = 0; i < count; i += stride) {
        product *= packed[entries_.data()[i]].freq;
        if (++samples % 64 == 0) {  // one logarithm for many samples; the product stays below 2^768
            bits -= log2_of(product);
            product = 1;
        }
    }
    bits += static_cast<double>(kProbBits * samples) - log2_of(product);
    return bits * static_cast<double>(stride) / 8;
}

size_t Encoder::encode_stage(const uint16_t* codes, size_t count, int lanes, uint32_t* states,
                             uint16_t* words, size_t next) const {
    const EncodeTables tables = tables_->encode_tables();
    const size_t rounds = count / static_cast<size_t>(lanes);
    const size_t whole = rounds * static_cast<size_t>(lanes);
    for (size_t i = count; i-- > whole;) encode_one(states[i - whole], tables.entries[codes[i]], words, next);
    return kernels_.encode(tables, lanes, codes, rounds, states, words, next);
}

std::vector<uint8_t> Encoder::finish(int lanes) {
    if (lanes < 0 || lanes > kMaxLanes || (lanes & (lanes - 1)) != 0)
        throw std::invalid_argument("lanes must be 0 (automatic) or a power of two up to 64");
    if (lanes == 0) {
        const double wanted = std::clamp(payload_estimate() / kBytesPerLane, 1.0, double{kMaxLanes});
        lanes = static_cast<int>(std::bit_floor(static_cast<unsigned>(wanted)));
    }
    std::vector<uint8_t> result;
    whole_or_nothing([&] { result = stream(lanes); });
    reset();
    return result;
}

std::vector<uint8_t> Encoder::stream(int lanes) {
    const uint16_t* codes = entries_.data();
    const Tail tail = encode_tail(tables_->encode_tables().entries, codes, entries_.size(), lanes);

    uint32_t states[kMaxLanes] = {tail.state};
    for (int lane = 1; lane < tail.lanes; ++lane) states[lane] = kStateLow | tail.words[lane - 1];
    // A symbol gives at most one word; one place more is only ever overwritten.
    const size_t words_end = tail.body + 1;
    uint16_t* const words = words_.grow(kWordRoom + words_end) + kWordRoom;
    size_t next = words_end;
    size_t stage_begin = entries_.size();
    for (size_t stage = stage_sizes_.size(); stage-- > 0;) {
        stage_begin -= stage_sizes_[stage];
        if (stage_begin >= tail.body) continue;
        const size_t in_body = std::min(stage_sizes_[stage], tail.body - stage_begin);
        next = encode_stage(codes + stage_begin, in_body, tail.lanes, states, words, next);
    }

    const std::vector<uint8_t>& side = side_->bytes();
    std::vector<uint8_t> out;
    out.reserve(32 + 4 * tail.lanes + 2 * (words_end - next) + side.size());
    write_header({tail.lanes, tail.body, side.size()}, out);
    for (int lane = 0; lane < tail.lanes; ++lane)
        for (int shift = 0; shift < 32; shift += 8)
            out.push_back(static_cast<uint8_t>(states[lane] >> shift));
    append_words(words + next, words_end - next, out);
    out.insert(out.end(), side.begin(), side.end());
    return out;
}

void Encoder::reset() {
    entries_.clear();
    stage_sizes_.clear();
    side_->clear();
}

}  // namespace basic
