// Header of a stream (docs/coder-stream.md): lane count, symbols before the tail, length of the side bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace basic {

struct StreamHeader {
    int lanes = 1;
    uint64_t body_symbols = 0;  // written only for lanes > 1
    uint64_t side_bytes = 0;
};

void write_header(const StreamHeader& header, std::vector<uint8_t>& out);

// Parses the header at the front of bytes and moves bytes past it. Throws StreamError.
StreamHeader read_header(std::span<const uint8_t>& bytes);

}  // namespace basic
