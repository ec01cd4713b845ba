// Blocks of a Deflate stream (RFC 1951) with runs of one byte, and no other repetitions.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace basic {

// The bytes as a block, or as several where they do not get smaller, up to the end of a byte; `last` if no
// others follow.
std::vector<uint8_t> deflate_runs(std::span<const uint8_t> bytes, bool last);

// The lengths of the codes of symbols that occur so often each, none above `most`, that make the least bits
// in all (package merge: Larmore and Hirschberg, "A fast algorithm for optimal length-limited Huffman codes",
// 1990). Symbols that never occur have none (0); of a single one it is 1. There are at most 2^most symbols.
std::vector<uint8_t> code_lengths(std::span<const uint32_t> counts, unsigned most);

}  // namespace basic
