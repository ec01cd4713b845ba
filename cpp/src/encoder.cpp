#include <algorithm>
#include <bit>
#include <cmath>
#include <stdexcept>

#include "basic/coder.hpp"
#include "basic/passes.hpp"
#include "renormalise.hpp"
#include "side_bits.hpp"
#include "stream_header.hpp"

namespace basic {
namespace {

constexpr size_t kChunk = 1024;        // symbols mapped at a time
constexpr double kBytesPerLane = 600;  // a lane costs about 1 byte, so about 1/600 of the payload at most

// Words are written towards the front, because the decoder reads them in the opposite order: words[next - 1]
// is the next place. A word that is not needed is written too and overwritten later.
inline void encode_one(uint32_t& state, const EncodeEntry& entry, uint16_t* words, size_t& next) {
    words[next - 1] = static_cast<uint16_t>(state);
    give_word_if_high(state, entry.limit, next);
    const auto quotient = static_cast<uint32_t>((state * entry.reciprocal) >> 44);
    state += quotient * entry.complement + entry.start;
}

template <int kLanes>
size_t encode_lanes(const EncodeEntry* __restrict entries, const uint16_t* __restrict codes, size_t count,
                    uint32_t* states, uint16_t* __restrict words, size_t next) {
    size_t i = count;
    for (size_t lane = count % kLanes; lane-- > 0;)
        encode_one(states[lane], entries[codes[--i]], words, next);
    uint32_t local[kLanes];
    std::copy_n(states, kLanes, local);
    while (i > 0) {
        i -= kLanes;
        if constexpr (kLanes <= 8) {  // states stay in registers
#pragma GCC unroll 8
            for (int lane = kLanes - 1; lane >= 0; --lane)
                encode_one(local[lane], entries[codes[i + lane]], words, next);
        } else {
            for (int block = kLanes - 8; block >= 0; block -= 8) {
#pragma GCC unroll 8
                for (int lane = block + 7; lane >= block; --lane)
                    encode_one(local[lane], entries[codes[i + lane]], words, next);
            }
        }
    }
    std::copy_n(local, kLanes, states);
    return next;
}

using EncodeLanes = decltype(&encode_lanes<1>);
constexpr EncodeLanes kEncodeLanes[] = {encode_lanes<1>,  encode_lanes<2>,  encode_lanes<4>, encode_lanes<8>,
                                        encode_lanes<16>, encode_lanes<32>, encode_lanes<64>};

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

// Symbols to indexes of encode entries. Lists the symbols that need side bits, without a branch, which would
// be unpredictable; returns their number.
template <typename T>
size_t map_symbols(const RowMap* __restrict maps, const T* __restrict symbols,
                   const uint8_t* __restrict indexes, uint16_t* __restrict entries, size_t count,
                   uint16_t* __restrict special_at) {
    size_t special = 0;
#pragma GCC unroll 4
    for (size_t i = 0; i < count; ++i) {
        const RowMap& map = maps[indexes[i]];
        // Modulo 2^32 a symbol below the row turns into a huge code: one comparison finds both sides.
        const uint32_t code =
            static_cast<uint32_t>(int32_t{symbols[i]} >> map.shift) - static_cast<uint32_t>(map.offset);
        special_at[special] = static_cast<uint16_t>(i);
        special += code >= map.special;
        entries[i] = static_cast<uint16_t>(map.base + std::min<uint32_t>(code, map.escape));
    }
    return special;
}

// Exact value of a symbol outside its row: side of the row, then the distance beyond it as an Elias gamma
// code.
void write_escape(int32_t high, const RowMap& map, BitWriter& side) {
    const bool below = high < map.offset;
    const int64_t distance = below ? int64_t{map.offset} - high : int64_t{high} - map.offset - map.escape + 1;
    const auto value = static_cast<uint64_t>(distance);  // 1 to 2^32
    const int bits = std::bit_width(value) - 1;
    side.put(below, 1);
    side.put(uint64_t{1} << bits, bits + 1);
    side.put(value ^ uint64_t{1} << bits, bits);
}

}  // namespace

Encoder::Encoder(std::shared_ptr<const Tables> tables)
    : tables_(std::move(tables)), side_(std::make_unique<BitWriter>()) {}

Encoder::~Encoder() = default;

template <typename T>
void Encoder::put_stage(std::span<const T> symbols, std::span<const uint8_t> indexes) {
    if (symbols.size() != indexes.size()) throw std::invalid_argument("symbols and indexes differ in size");
    if (!indexes.empty() && largest(indexes) >= tables_->rows())
        throw std::invalid_argument("index beyond the rows of the tables");
    const RowMap* maps = tables_->maps();
    const size_t count = symbols.size();
    uint16_t* entries = entries_.grow(count);
    uint16_t special_at[kChunk];
    escapes_.clear();
    for (size_t begin = 0; begin < count; begin += kChunk) {
        const size_t size = std::min(kChunk, count - begin);
        const size_t special =
            map_symbols(maps, &symbols[begin], &indexes[begin], entries + begin, size, special_at);
        for (size_t k = 0; k < special; ++k) {
            const size_t i = begin + special_at[k];
            const RowMap& map = maps[indexes[i]];
            side_->put(static_cast<uint32_t>(symbols[i]) & ((1u << map.shift) - 1), map.shift);
            if (entries[i] == map.base + map.escape) escapes_.push_back(i);
        }
    }
    for (const size_t i : escapes_) {
        const RowMap& map = maps[indexes[i]];
        write_escape(int32_t{symbols[i]} >> map.shift, map, *side_);
    }
    stage_sizes_.push_back(count);
    entries_.commit(count);
}

void Encoder::put(std::span<const int16_t> symbols, std::span<const uint8_t> indexes) {
    put_stage(symbols, indexes);
}

void Encoder::put(std::span<const int32_t> symbols, std::span<const uint8_t> indexes) {
    put_stage(symbols, indexes);
}

double Encoder::payload_estimate() const {
    const size_t count = entries_.size();
    const size_t stride = count / 4096 + 1;
    double bits = 0;
    for (size_t i = 0; i < count; i += stride)
        bits += 32 - std::log2(static_cast<double>(tables_->entries()[entries_.data()[i]].limit));
    return bits * static_cast<double>(stride) / 8;
}

std::vector<uint8_t> Encoder::finish(int lanes) {
    if (lanes < 0 || lanes > kMaxLanes || (lanes & (lanes - 1)) != 0)
        throw std::invalid_argument("lanes must be 0 (automatic) or a power of two up to 64");
    if (lanes == 0) {
        const double wanted = std::clamp(payload_estimate() / kBytesPerLane, 1.0, double{kMaxLanes});
        lanes = static_cast<int>(std::bit_floor(static_cast<unsigned>(wanted)));
    }
    const EncodeEntry* entries = tables_->entries();
    const uint16_t* codes = entries_.data();
    const Tail tail = encode_tail(entries, codes, entries_.size(), lanes);

    uint32_t states[kMaxLanes] = {tail.state};
    for (int lane = 1; lane < tail.lanes; ++lane) states[lane] = kStateLow | tail.words[lane - 1];
    const size_t words_end =
        tail.body + 1;  // a symbol gives at most one word; one place more is only ever overwritten
    uint16_t* const words = words_.grow(words_end);
    size_t next = words_end;
    const EncodeLanes encode = kEncodeLanes[std::countr_zero(static_cast<unsigned>(tail.lanes))];
    size_t stage_begin = entries_.size();
    for (size_t stage = stage_sizes_.size(); stage-- > 0;) {
        stage_begin -= stage_sizes_[stage];
        if (stage_begin >= tail.body) continue;
        const size_t in_body = std::min(stage_sizes_[stage], tail.body - stage_begin);
        next = encode(entries, codes + stage_begin, in_body, states, words, next);
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
    reset();
    return out;
}

void Encoder::reset() {
    entries_.clear();
    stage_sizes_.clear();
    side_->clear();
}

}  // namespace basic
