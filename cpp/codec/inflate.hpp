// zlib streams (RFC 1950) of a known size.
#pragma once

#include <vector>

#include "reader.hpp"

namespace basic::codec {

// The `size` bytes that a stream holds. Throws Error, with `what` named in it, unless it holds exactly so many and ends
// where the bytes end.
std::vector<uint8_t> inflate(Bytes stream, size_t size, const char* what);

}  // namespace basic::codec
