// Constants of the stream and the plain tables that coder kernels read. Nothing here needs code: files
// compiled for one instruction set include it without leaving functions behind that other processors might be
// given.
#pragma once

#include <cstddef>
#include <cstdint>

namespace basic {

inline constexpr int kProbBits = 12;  // frequencies of a row sum to 2^kProbBits
inline constexpr uint32_t kProbTotal = 1u << kProbBits;
inline constexpr uint32_t kStateLow = 1u << 16;  // states live in [kStateLow, 2^32)
inline constexpr int kMaxLanes = 64;
inline constexpr size_t kMaxRows = 256;     // a row index fits a byte
inline constexpr uint32_t kMaxCodes = 256;  // a code fits a byte
inline constexpr int kMaxShift = 15;        // raw low bits of a symbol

// Symbols that need side bits are "special": escapes, and all symbols of a row with raw low bits. Kernels
// list them; the coder then treats them one by one.
inline constexpr uint8_t kDecodedEscape = 255;  // what a decoder's slot calls the escape of any row

// One code of one row, as a scalar encoder needs it.
struct EncodeEntry {
    uint64_t reciprocal;  // ceil(2^44 / freq): (x * reciprocal) >> 44 == x / freq for every x < freq << 20
    uint32_t limit;       // freq << 20: a state this large gives a word first
    uint16_t complement;  // 4096 - freq
    uint16_t start;       // sum of the frequencies of the row's earlier codes
};

// The same for vectors: one load of 64 bits. For every 32-bit x, q = (x * reciprocal) >> 32 is floor(x /
// freq) or one less. Proof: reciprocal = 2^32 / freq - e with 0 <= e < 1 (e = 1 for freq = 1, which has no
// 2^32), so x * reciprocal / 2^32 = x / freq - x * e / 2^32, and x * e / 2^32 < 1.
struct PackedEntry {
    uint32_t reciprocal;  // min(floor(2^32 / freq), 2^32 - 1)
    uint16_t freq;
    uint16_t start;
};
static_assert(sizeof(PackedEntry) == 8);

struct EncodeTables {
    const EncodeEntry* entries;
    const PackedEntry* packed;
};

// One row's map from symbols to entries: with code = symbol - offset modulo 2^32, the entry is base +
// min(code, special), and the symbol is special if code >= special. (Symbols below the row turn into huge
// codes.)
struct RowMap {
    int32_t offset;
    uint16_t special;  // the escape, or 0 for a row with raw low bits
    uint16_t base;     // the row's first entry
};
static_assert(sizeof(RowMap) == 8);

// All rows. In the decoder, symbol = offset + code, special if code >= special_code. The columns repeat the
// rows in 16 bits if narrow says that they can, padded so that 64 rows may be loaded from any row on.
struct RowTables {
    static constexpr size_t kWindow = 64;
    static constexpr int32_t kNarrow = 0x4000;  // |offset| up to here: no doubt about codes modulo 2^16

    bool narrow = true;
    RowMap maps[kMaxRows] = {};
    int16_t offset[kMaxRows + kWindow] = {};
    uint16_t special[kMaxRows + kWindow] = {};
    uint16_t base[kMaxRows + kWindow] = {};
    uint16_t special_code[kMaxRows + kWindow] = {};  // kDecodedEscape, or 0 for a row with raw low bits
};

}  // namespace basic
