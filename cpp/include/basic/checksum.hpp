// CRC-32 (that of zlib, reflected polynomial 0xEDB88320) of integers carried in float32.
#pragma once

#include <cstdint>
#include <span>

#include "basic/workers.hpp"

namespace basic {

// The CRC-32 of bytes, after others whose own is `crc`.
uint32_t crc32(std::span<const uint8_t> bytes, uint32_t crc = 0);

// The same by tables alone, as processors without carry-less multiplication take it.
uint32_t crc32_by_tables(std::span<const uint8_t> bytes, uint32_t crc = 0);

// The CRC-32 of the values as int32, little-endian. What is no integer is cut to one, NaN counts as the least.
uint32_t crc32_of_integers(std::span<const float> values, uint32_t crc = 0);

// The same by several threads.
uint32_t crc32_of_integers(std::span<const float> values, uint32_t crc, Workers& workers);

// The CRC-32 of something whose own is `crc`, followed by parts of `bytes` each. CRC-32 is linear: that of two parts is that
// of the first times x^(bits of the second), in GF(2)[x] modulo the polynomial, plus that of the second.
uint32_t crc32_joined(uint32_t crc, std::span<const uint32_t> parts, uint64_t bytes);

// crcs[k] becomes that of a thing and `more[k]`'s, which has so many bytes.
void crc32_append(std::span<uint32_t> crcs, std::span<const uint32_t> more, uint64_t bytes);

}  // namespace basic
