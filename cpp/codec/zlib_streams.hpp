// zlib streams (RFC 1950).
#pragma once

#include <vector>

#include "reader.hpp"

namespace basic::codec {

// The `size` bytes that a stream holds. Throws Error, with `what` named in it, unless it holds exactly so many and ends
// where the bytes end.
std::vector<uint8_t> inflate(Bytes stream, size_t size, const char* what);

// What a stream holds, nothing if it is damaged, and of more than `most` bytes the first `most + 1`.
std::vector<uint8_t> inflate_up_to(Bytes stream, size_t most);

// One stream of all bytes, at the strongest setting.
std::vector<uint8_t> deflate(Bytes bytes);

}  // namespace basic::codec
