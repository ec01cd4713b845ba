#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <string>

#include "basic/coder.hpp"
#include "basic/passes.hpp"
#include "steps.hpp"
#include "stream_header.hpp"

namespace basic {
namespace {

constexpr size_t kChunk = 1024;  // symbols whose codes wait on the stack; a multiple of every lane count
static_assert(kChunk % kMaxLanes == 0);
// Raw bits are read without a check per symbol: a chunk may run this far past the end before it is caught.
constexpr size_t kSidePadding = kChunk * kMaxShift / 8 + 16;

uint64_t load_bits(const uint8_t* p) {
    uint64_t bits;
    std::memcpy(&bits, p, sizeof bits);
    if constexpr (std::endian::native == std::endian::big) bits = __builtin_bswap64(bits);
    return bits;
}

size_t unmap_codes(const Kernels& kernels, const RowTables& rows, const uint8_t* indexes,
                   const uint8_t* codes, int16_t* out, size_t count, uint16_t* special_at) {
    return kernels.unmap16(rows, indexes, codes, out, count, special_at);
}

size_t unmap_codes(const Kernels& kernels, const RowTables& rows, const uint8_t* indexes,
                   const uint8_t* codes, int32_t* out, size_t count, uint16_t* special_at) {
    return kernels.unmap32(rows, indexes, codes, out, count, special_at);
}

// Between two stages a network runs, which leaves no table in the caches. Decoding would then wait for most
// cache lines one round of lanes after the other; asked for at once, a row's lines come several times faster:
// all of them in the time of about five that are waited for, so rows that are hardly used are worth it.
void fetch_rows(const uint32_t* slots, std::span<const uint8_t> indexes) {
    constexpr size_t kStride = 8;  // symbols looked at: one in so many
    constexpr size_t kLine = 64 / sizeof(uint32_t);
    bool used[kMaxRows] = {};
    for (size_t i = 0; i < indexes.size(); i += kStride) used[indexes[i]] = true;
    for (size_t row = 0; row < kMaxRows; ++row) {
        if (!used[row]) continue;
        // Loads, not prefetches, which the processor drops where it must first look up the page.
        const volatile uint32_t* begin = slots + (row << kProbBits);
        for (size_t slot = 0; slot < kProbTotal; slot += kLine) static_cast<void>(begin[slot]);
    }
}

// What is written two chunks from now, for the same reason.
template <typename T>
void fetch_chunk(std::span<T> out, size_t begin) {
    if (begin + kChunk > out.size()) return;
    for (size_t i = 0; i < kChunk; i += 64 / sizeof(T)) __builtin_prefetch(&out[begin + i], 1);
}

}  // namespace

Decoder::Decoder(std::shared_ptr<const Tables> tables, std::span<const uint8_t> bytes, const Kernels& kernels)
    : tables_(std::move(tables)), kernels_(kernels) {
    bytes_.reserve(bytes.size() + kByteRoom);
    bytes_.assign(bytes.begin(), bytes.end());
    bytes_.resize(bytes.size() + kByteRoom);
    std::span<const uint8_t> rest(bytes_.data(), bytes.size());
    const StreamHeader header = read_header(rest);
    lanes_ = header.lanes;
    // With one lane there is no tail: the body never ends.
    body_left_ = lanes_ > 1 ? header.body_symbols : std::numeric_limits<uint64_t>::max();
    const size_t states_bytes = size_t{4} * static_cast<size_t>(lanes_);
    if (rest.size() < states_bytes || rest.size() - states_bytes < header.side_bytes)
        throw StreamError("coder stream: truncated");
    const size_t words_bytes = rest.size() - states_bytes - static_cast<size_t>(header.side_bytes);
    if (words_bytes % 2 != 0) throw StreamError("coder stream: odd number of bytes in words");
    for (int lane = 0; lane < lanes_; ++lane) {
        const uint8_t* p = rest.data() + 4 * lane;
        states_[lane] = load_word(p) | load_word(p + 2) << 16;
        if (states_[lane] < kStateLow) throw StreamError("coder stream: bad state");
    }
    word_ = rest.data() + states_bytes;
    words_end_ = word_ + words_bytes;
    side_bits_ = 8 * static_cast<size_t>(header.side_bytes);
    side_.reserve(static_cast<size_t>(header.side_bytes) + kSidePadding);
    side_.assign(words_end_, words_end_ + header.side_bytes);
    side_.resize(side_.size() + kSidePadding);
}

void Decoder::fail(const char* what) {
    failed_ = true;
    throw StreamError(std::string("coder stream: ") + what);
}

void Decoder::decode_body(const uint8_t* indexes, uint8_t* codes, size_t count) {
    const uint32_t* slots = tables_->slots();
    const size_t rounds = count / static_cast<size_t>(lanes_);
    word_ = kernels_.decode(slots, lanes_, indexes, codes, rounds, states_.data(), word_, words_end_);
    if (word_ > words_end_) fail("out of words");
    size_t i = rounds * static_cast<size_t>(lanes_);
    for (; i < count; ++i) {
        uint32_t& state = states_[i & static_cast<size_t>(lanes_ - 1)];
        codes[i] = decode_one(state, slots, indexes[i]);
        if (state >= kStateLow) continue;
        if (word_ == words_end_) fail("out of words");
        state = state << 16 | load_word(word_);
        word_ += 2;
    }
}

void Decoder::enter_tail() {
    if (word_ != words_end_) fail("words left over");
    for (int lane = 1; lane < lanes_; ++lane)
        if (states_[lane] >> 16 != 1) fail("lane does not end in its initial state");
    in_tail_ = true;
}

void Decoder::decode_tail(const uint8_t* indexes, uint8_t* codes, size_t count) {
    if (!in_tail_) enter_tail();
    const uint32_t* slots = tables_->slots();
    uint32_t& state = states_[0];
    for (size_t i = 0; i < count; ++i) {
        codes[i] = decode_one(state, slots, indexes[i]);
        if (state >= kStateLow) continue;
        if (tail_lane_ == lanes_) fail("out of words");
        state = state << 16 | (states_[tail_lane_++] & 0xffff);
    }
}

void Decoder::decode_codes(const uint8_t* indexes, uint8_t* codes, size_t count) {
    const auto in_body = static_cast<size_t>(std::min<uint64_t>(count, body_left_));
    if (in_body > 0) decode_body(indexes, codes, in_body);
    if (lanes_ > 1) body_left_ -= in_body;
    if (in_body < count) decode_tail(indexes + in_body, codes + in_body, count - in_body);
}

// Codes to symbols, except that an escape's symbol has its low bits only; escapes_ gets its position, begin +
// i.
template <typename T>
void Decoder::map_codes(const uint8_t* __restrict indexes, const uint8_t* __restrict codes, T* __restrict out,
                        size_t begin, size_t count) {
    uint16_t special_at[kChunk + kListRoom];
    const size_t special =
        unmap_codes(kernels_, tables_->row_tables(), indexes, codes, out, count, special_at);
    const uint8_t* side = side_.data();
    size_t bit = side_bit_;
    for (size_t k = 0; k < special; ++k) {
        const size_t i = special_at[k];
        const uint32_t shift = tables_->end(indexes[i]).shift;
        const auto low = static_cast<uint32_t>(load_bits(side + bit / 8) >> bit % 8) & ((1u << shift) - 1);
        out[i] = static_cast<T>(static_cast<uint32_t>(out[i]) << shift | low);
        bit += shift;
        if (codes[i] == kDecodedEscape) escapes_.push_back(begin + i);
    }
    if (bit > side_bits_) fail("out of side bits");
    side_bit_ = bit;
}

uint64_t Decoder::read_bits(int count) {
    if (side_bits_ - side_bit_ < static_cast<size_t>(count)) fail("out of side bits");
    const uint64_t bits = load_bits(side_.data() + side_bit_ / 8) >> side_bit_ % 8;
    side_bit_ += static_cast<size_t>(count);
    return bits & ((uint64_t{1} << count) - 1);
}

template <typename T>
void Decoder::read_escapes(const uint8_t* indexes, T* out) {
    for (const size_t i : escapes_) {
        const int64_t offset = tables_->row_tables().maps[indexes[i]].offset;
        const Tables::RowEnd end = tables_->end(indexes[i]);
        const bool below = read_bits(1) != 0;
        int bits = 0;
        while (read_bits(1) == 0)
            if (++bits > 32) fail("bad escape");
        const auto distance = static_cast<int64_t>(uint64_t{1} << bits | read_bits(bits));
        const int64_t high = below ? offset - distance : offset + end.escape - 1 + distance;
        // out[i] holds the raw low bits already.
        const int64_t low = static_cast<uint32_t>(out[i]) & ((1u << end.shift) - 1);
        const int64_t symbol = high * (int64_t{1} << end.shift) + low;
        if (symbol < std::numeric_limits<T>::min() || symbol > std::numeric_limits<T>::max())
            fail("symbol out of range");
        out[i] = static_cast<T>(symbol);
    }
}

template <typename T>
void Decoder::get_stage(std::span<const uint8_t> indexes, std::span<T> out) {
    if (indexes.size() != out.size()) throw std::invalid_argument("indexes and out differ in size");
    if (failed_) fail("already failed");
    if (!indexes.empty() && largest(indexes) >= tables_->rows())
        throw std::invalid_argument("index beyond the rows of the tables");
    if (sizeof(T) == 2 && !tables_->fits_int16()) {
        // Some codes lie outside int16, which only the wider type can tell.
        std::vector<int32_t> wide(out.size());
        get_stage(indexes, std::span<int32_t>(wide));
        for (size_t i = 0; i < out.size(); ++i) {
            out[i] = static_cast<T>(wide[i]);
            if (out[i] != wide[i]) fail("symbol out of range");
        }
        return;
    }
    failed_ = true;  // unless the stage is decoded to its end
    escapes_.clear();
    fetch_rows(tables_->slots(), indexes);
    uint8_t codes[kChunk];
    for (size_t begin = 0; begin < indexes.size(); begin += kChunk) {
        const size_t count = std::min(kChunk, indexes.size() - begin);
        fetch_chunk(out, begin + 2 * kChunk);
        decode_codes(&indexes[begin], codes, count);
        map_codes(&indexes[begin], codes, &out[begin], begin, count);
    }
    read_escapes(indexes.data(), out.data());
    failed_ = false;
}

void Decoder::get(std::span<const uint8_t> indexes, std::span<int32_t> out) { get_stage(indexes, out); }

void Decoder::get(std::span<const uint8_t> indexes, std::span<int16_t> out) { get_stage(indexes, out); }

void Decoder::finish() {
    if (failed_) fail("already failed");
    if (lanes_ > 1 && body_left_ > 0) fail("symbols left over");
    if (lanes_ > 1 && !in_tail_) enter_tail();
    if (word_ != words_end_ || (lanes_ > 1 && tail_lane_ != lanes_)) fail("words left over");
    if (states_[0] != kStateLow) fail("lane does not end in its initial state");
    const size_t left = side_bits_ - side_bit_;
    if (left >= 8) fail("side bits left over");
    if (left > 0 && read_bits(static_cast<int>(left)) != 0) fail("padding is not zero");
}

}  // namespace basic
