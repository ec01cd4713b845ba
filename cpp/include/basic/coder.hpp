// Entropy coder of BaSIC: interleaved rANS over whole stages of symbols.
//
// The stream is specified in docs/coder-stream.md. Typical use:
//
//     auto tables = std::make_shared<const basic::Tables>(freqs, sizes, offsets, shifts);
//     basic::Encoder encoder(tables);
//     encoder.put(symbols_of_stage_0, indexes_of_stage_0);      // any number of stages
//     std::vector<uint8_t> bytes = encoder.finish();
//
//     basic::Decoder decoder(tables, bytes);
//     decoder.get(indexes_of_stage_0, symbols_of_stage_0);      // same stages, same order
//     decoder.finish();
//
// Wrong arguments throw std::invalid_argument and change nothing. Damaged or hostile bytes throw StreamError.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <stdexcept>
#include <vector>

#include "basic/kernels.hpp"
#include "basic/layout.hpp"

namespace basic {

// The bytes do not come from this encoder with these tables and indexes: damaged, truncated, hostile.
class StreamError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

// Immutable probability tables, built once and shared by any number of encoders, decoders and threads.
class Tables {
  public:
    // Row r holds sizes[r] codes (2..256) with frequencies >= 1 that sum to 4096, laid end to end in freqs.
    // Throws std::invalid_argument for anything else, or if a code's symbol does not fit int32.
    Tables(std::span<const uint16_t> freqs, std::span<const uint16_t> sizes, std::span<const int32_t> offsets,
           std::span<const uint8_t> shifts);

    size_t rows() const { return ends_.size(); }
    const RowTables& row_tables() const { return rows_; }
    EncodeTables encode_tables() const { return {entries_.data(), packed_.data()}; }
    bool fits_int16() const { return fits_int16_; }  // no code before the escape stands for a wider symbol

    // A row's last code, which stands for every symbol outside the row, and its number of raw low bits.
    struct RowEnd {
        uint8_t escape, shift;
    };
    RowEnd end(uint8_t row) const { return ends_[row]; }

    // Per row 4096 slots of (freq << 20 | slot - start << 8 | code), row after row; the escape's code is
    // kDecodedEscape. 16 KiB per row, built by the first call: encoders do not need them.
    const uint32_t* slots() const {
        std::call_once(slots_built_, [this] { build_slots(); });
        return slots_.get();
    }

  private:
    void build_slots() const;

    std::vector<RowEnd> ends_;
    std::vector<EncodeEntry> entries_;
    std::vector<PackedEntry> packed_;
    RowTables rows_;
    bool fits_int16_ = true;
    mutable std::once_flag slots_built_;
    struct Free {
        void operator()(void* memory) const;
    };
    mutable std::unique_ptr<uint32_t[], Free> slots_;
};

// Append-only array whose growth leaves new elements uninitialised and whose clear() keeps the memory.
template <typename T>
class Queue {
  public:
    T* grow(size_t count) {  // room for count more elements; commit() makes them part of the queue
        if (size_ + count > capacity_) {
            const size_t capacity = std::max(size_ + count, capacity_ * 2);
            std::unique_ptr<T[]> larger(new T[capacity]);  // uninitialised
            std::copy_n(data_.get(), size_, larger.get());
            data_ = std::move(larger);
            capacity_ = capacity;
        }
        return data_.get() + size_;
    }
    void commit(size_t count) { size_ += count; }
    void clear() { size_ = 0; }
    size_t size() const { return size_; }
    const T* data() const { return data_.get(); }

  private:
    std::unique_ptr<T[]> data_;
    size_t size_ = 0, capacity_ = 0;
};

class BitWriter;

// Queues stages of symbols, then writes them as one stream. What runs out of memory forgets all stages, as reset() does.
// Not safe for use by two threads at once.
class Encoder {
  public:
    explicit Encoder(std::shared_ptr<const Tables> tables, const Kernels& kernels = default_kernels());
    ~Encoder();

    // Appends one stage: symbols[i] is coded with row indexes[i].
    void put(std::span<const int16_t> symbols, std::span<const uint8_t> indexes);
    void put(std::span<const int32_t> symbols, std::span<const uint8_t> indexes);

    // The stream of all stages since construction or reset(); the encoder is then empty again.
    // lanes: 0 chooses by payload; else a power of two up to 64, lowered if there are too few symbols for it.
    std::vector<uint8_t> finish(int lanes = 0);

    // Forgets all queued stages, keeps the memory.
    void reset();

    const Kernels& kernels() const { return kernels_; }

  private:
    template <typename T>
    void put_stage(std::span<const T> symbols, std::span<const uint8_t> indexes);
    template <typename Work>
    void whole_or_nothing(Work work);
    std::vector<uint8_t> stream(int lanes);
    double payload_estimate() const;
    size_t encode_stage(const uint16_t* codes, size_t count, int lanes, uint32_t* states, uint16_t* words,
                        size_t next) const;

    std::shared_ptr<const Tables> tables_;
    const Kernels& kernels_;
    Queue<uint16_t> entries_;  // index into Tables::encode_tables() of every symbol, in stream order
    Queue<uint16_t> words_;    // scratch of finish()
    std::vector<size_t> stage_sizes_;
    std::vector<size_t> escapes_;  // scratch of put(): positions of the stage's escapes
    std::unique_ptr<BitWriter> side_;
};

// Reads a stream stage by stage. Not safe for use by two threads at once.
class Decoder {
  public:
    // Copies the bytes. Throws StreamError if the header is damaged.
    Decoder(std::shared_ptr<const Tables> tables, std::span<const uint8_t> bytes,
            const Kernels& kernels = default_kernels());
    Decoder(const Decoder&) = delete;  // its pointers are into its own bytes, which a move keeps where they are
    Decoder(Decoder&&) = default;

    // Decodes the next stage; out must not overlap indexes. After a StreamError, or for want of memory, every later call
    // throws a StreamError too; out is then undefined.
    // For int16 output a symbol outside int16 is a StreamError.
    void get(std::span<const uint8_t> indexes, std::span<int32_t> out);
    void get(std::span<const uint8_t> indexes, std::span<int16_t> out);

    // Throws StreamError unless every byte was used and the final states are the encoder's initial ones.
    void finish();

    int lanes() const { return lanes_; }
    const Kernels& kernels() const { return kernels_; }

  private:
    [[noreturn]] void fail(const char* what);
    template <typename T>
    void get_stage(std::span<const uint8_t> indexes, std::span<T> out);
    void decode_codes(const uint8_t* indexes, uint8_t* codes, size_t count);
    void decode_body(const uint8_t* indexes, uint8_t* codes, size_t count);
    void decode_tail(const uint8_t* indexes, uint8_t* codes, size_t count);
    template <typename T>
    void map_codes(const uint8_t* indexes, const uint8_t* codes, T* out, size_t begin, size_t count);
    template <typename T>
    void read_escapes(const uint8_t* indexes, T* out);
    void enter_tail();
    uint64_t read_bits(int count);

    std::shared_ptr<const Tables> tables_;
    const Kernels& kernels_;
    std::vector<uint8_t> bytes_;     // the stream, then kByteRoom zeros
    const uint8_t* word_ = nullptr;  // next word of the body
    const uint8_t* words_end_ = nullptr;
    std::vector<uint8_t> side_;  // padded copy of the side bits
    size_t side_bit_ = 0, side_bits_ = 0;
    int lanes_ = 1;
    bool in_tail_ = false;
    bool failed_ = false;
    uint64_t body_left_ = 0;  // symbols until the tail
    int tail_lane_ = 1;       // next lane whose initial state is the tail's next word
    std::array<uint32_t, kMaxLanes> states_{};
    std::vector<size_t> escapes_;  // scratch: positions of the stage's escapes
};

}  // namespace basic
