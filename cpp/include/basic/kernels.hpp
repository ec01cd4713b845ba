// The coder's inner loops in one version per instruction set. All versions read and write the same bytes.
//
// The fastest that the processor can run is the default; the environment variable BASIC_CODER_KERNEL names
// another, and so may whoever makes an Encoder or Decoder. docs/coder.md describes them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string_view>

#include "basic/layout.hpp"

namespace basic {

// Room that kernels need: vectors are read and written whole.
inline constexpr size_t kWordRoom = 16;                     // words before an encoder's first
inline constexpr size_t kByteRoom = 2 * size_t{kMaxLanes};  // bytes after a decoder's last
inline constexpr size_t kListRoom = 32;                     // places after a list of special symbols

struct Kernels {
    const char* name;

    // Symbols to indexes of encode entries. Lists the positions of special symbols, whose entries the caller
    // sets; returns their number. special_at has count + kListRoom places.
    size_t (*map16)(const RowTables& rows, const int16_t* symbols, const uint8_t* indexes, uint16_t* entries,
                    size_t count, uint16_t* special_at);
    size_t (*map32)(const RowTables& rows, const int32_t* symbols, const uint8_t* indexes, uint16_t* entries,
                    size_t count, uint16_t* special_at);

    // Encodes whole rounds of `lanes` symbols, last first. words[next - 1] is the next place; returns the new
    // next. Writes as far as kWordRoom places below the last word.
    size_t (*encode)(const EncodeTables& tables, int lanes, const uint16_t* entries, size_t rounds,
                     uint32_t* states, uint16_t* words, size_t next);

    // Decodes whole rounds of `lanes` symbols and returns the next word's place. Stops once that is past
    // words_end, which means a damaged stream; reads no further than words_end + kByteRoom.
    const uint8_t* (*decode)(const uint32_t* slots, int lanes, const uint8_t* indexes, uint8_t* codes,
                             size_t rounds, uint32_t* states, const uint8_t* word, const uint8_t* words_end);

    // Codes to symbols as if none were special, and the list of those that are, as above.
    size_t (*unmap16)(const RowTables& rows, const uint8_t* indexes, const uint8_t* codes, int16_t* out,
                      size_t count, uint16_t* special_at);
    size_t (*unmap32)(const RowTables& rows, const uint8_t* indexes, const uint8_t* codes, int32_t* out,
                      size_t count, uint16_t* special_at);
};

// No such kernel in this build or on this processor.
class KernelError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

// Those this processor can run, fastest first; the last is "scalar".
std::span<const Kernels* const> available_kernels();

// Throws KernelError for any name but those.
const Kernels& kernels_named(std::string_view name);

// The one that BASIC_CODER_KERNEL names (read once, KernelError if there is none such), else the fastest.
const Kernels& default_kernels();

}  // namespace basic
