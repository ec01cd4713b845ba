// Polynomials over GF(2): the first bit of a message, the lowest of its first byte, has the highest power.
#include "basic/checksum.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <vector>

#if defined(__x86_64__) && defined(__GNUC__)
#define BASIC_CARRYLESS 1
#include <immintrin.h>
#endif

namespace basic {
namespace {

constexpr uint32_t kPolynomial = 0xEDB88320;  // bit 31 stands for x^0
constexpr size_t kAtOnce = 8;                 // bytes of a step by tables
constexpr size_t kBlock = 1024;               // values of a step of conversion
constexpr size_t kLeastPart = 8 * kBlock;     // values that are worth a thread

using Tables = std::array<std::array<uint32_t, 256>, kAtOnce>;

// kTables[k][b]: what byte b does to the checksum when k bytes follow it.
constexpr Tables make_tables() {
    Tables tables{};
    for (uint32_t byte = 0; byte < 256; ++byte) {
        uint32_t value = byte;
        for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ (value & 1 ? kPolynomial : 0);
        tables[0][byte] = value;
    }
    for (size_t k = 1; k < kAtOnce; ++k)
        for (uint32_t byte = 0; byte < 256; ++byte)
            tables[k][byte] = tables[k - 1][byte] >> 8 ^ tables[0][tables[k - 1][byte] & 255];
    return tables;
}

constexpr Tables kTables = make_tables();

// `state` is the complement of a checksum.
uint32_t by_tables(const uint8_t* bytes, size_t count, uint32_t state) {
    for (; count >= kAtOnce; bytes += kAtOnce, count -= kAtOnce) {
        uint32_t next = 0;
        for (size_t k = 0; k < kAtOnce; ++k) {
            const uint8_t byte = k < 4 ? bytes[k] ^ static_cast<uint8_t>(state >> 8 * k) : bytes[k];
            next ^= kTables[kAtOnce - 1 - k][byte];
        }
        state = next;
    }
    for (; count > 0; ++bytes, --count) state = state >> 8 ^ kTables[0][(state ^ *bytes) & 255];
    return state;
}

#if defined(BASIC_CARRYLESS)

// x^exponent modulo the polynomial, one place up, as products of reflected polynomials come out one place too low.
consteval int64_t power(int exponent) {
    uint32_t value = uint32_t{1} << 31;
    for (int k = 0; k < exponent; ++k) value = value >> 1 ^ (value & 1 ? kPolynomial : 0);
    return static_cast<int64_t>(uint64_t{value} << 1);
}

// `count` bytes, at least 64, down to 16 of the same remainder; returns how many it took. Each step multiplies both
// halves of 128 bits by the power of x that they are moved by (Gopal et al., "Fast CRC computation for generic
// polynomials using PCLMULQDQ instruction", Intel, 2009).
__attribute__((target("pclmul,sse4.1"))) size_t fold(const uint8_t* bytes, size_t count, uint32_t state,
                                                     uint8_t* folded) {
    const auto load = [&](size_t at) __attribute__((target("pclmul,sse4.1"))) {
        return _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + at));
    };
    const auto moved = [](__m128i value, __m128i by) __attribute__((target("pclmul,sse4.1"))) {
        return _mm_xor_si128(_mm_clmulepi64_si128(value, by, 0x00), _mm_clmulepi64_si128(value, by, 0x11));
    };
    const __m128i by_64 = _mm_set_epi64x(power(512 - 32), power(512 + 32));
    const __m128i by_16 = _mm_set_epi64x(power(128 - 32), power(128 + 32));
    __m128i parts[4] = {_mm_xor_si128(load(0), _mm_cvtsi32_si128(static_cast<int>(state))), load(16), load(32),
                        load(48)};
    size_t at = 64;
    for (; count - at >= 64; at += 64)
        for (size_t k = 0; k < 4; ++k) parts[k] = _mm_xor_si128(moved(parts[k], by_64), load(at + 16 * k));
    __m128i all = parts[0];
    for (size_t k = 1; k < 4; ++k) all = _mm_xor_si128(moved(all, by_16), parts[k]);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(folded), all);
    return at;
}

#endif

uint32_t times(uint32_t a, uint32_t b) {
    uint32_t result = 0;
    for (uint32_t bit = uint32_t{1} << 31; bit != 0; bit >>= 1) {
        result ^= b & bit ? a : 0;
        a = a >> 1 ^ (a & 1 ? kPolynomial : 0);
    }
    return result;
}

// x^(8 bytes).
uint32_t moved_by(uint64_t bytes) {
    uint32_t result = uint32_t{1} << 31, square = uint32_t{1} << 23;  // 1, x^8
    for (; bytes != 0; bytes >>= 1) {
        if (bytes & 1) result = times(result, square);
        square = times(square, square);
    }
    return result;
}

}  // namespace

uint32_t crc32_joined(uint32_t crc, std::span<const uint32_t> parts, uint64_t bytes) {
    const uint32_t factor = moved_by(bytes);
    for (const uint32_t part : parts) crc = times(crc, factor) ^ part;
    return crc;
}

void crc32_append(std::span<uint32_t> crcs, std::span<const uint32_t> more, uint64_t bytes) {
    const uint32_t factor = moved_by(bytes);
    for (size_t k = 0; k < crcs.size(); ++k) crcs[k] = times(crcs[k], factor) ^ more[k];
}

uint32_t crc32_by_tables(std::span<const uint8_t> bytes, uint32_t crc) {
    return ~by_tables(bytes.data(), bytes.size(), ~crc);
}

uint32_t crc32(std::span<const uint8_t> bytes, uint32_t crc) {
#if defined(BASIC_CARRYLESS)
    if (__builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1") && bytes.size() >= 64) {
        uint8_t folded[16];
        const size_t taken = fold(bytes.data(), bytes.size(), ~crc, folded);
        const uint32_t state = by_tables(folded, sizeof folded, 0);
        return ~by_tables(bytes.data() + taken, bytes.size() - taken, state);
    }
#endif
    return crc32_by_tables(bytes, crc);
}

uint32_t crc32_of_integers(std::span<const float> values, uint32_t crc) {
    constexpr float kLeast = -2147483648.0f, kMost = 2147483520.0f;
    int32_t block[kBlock];
    for (size_t start = 0; start < values.size(); start += kBlock) {
        const size_t count = std::min(kBlock, values.size() - start);
        for (size_t i = 0; i < count; ++i) {
            const float value = values[start + i] > kLeast ? values[start + i] : kLeast;
            block[i] = static_cast<int32_t>(value < kMost ? value : kMost);
            if constexpr (std::endian::native == std::endian::big)
                block[i] = static_cast<int32_t>(__builtin_bswap32(static_cast<uint32_t>(block[i])));
        }
        crc = crc32({reinterpret_cast<const uint8_t*>(block), count * sizeof(int32_t)}, crc);
    }
    return crc;
}

uint32_t crc32_of_integers(std::span<const float> values, uint32_t crc, Workers& workers) {
    const size_t count = std::min(workers.threads(), values.size() / kLeastPart);
    if (count < 2) return crc32_of_integers(values, crc);
    const size_t size = values.size() / count, before = values.size() % count;
    crc = crc32_of_integers(values.first(before), crc);
    std::vector<uint32_t> parts(count);
    workers.each(count, [&](size_t k) { parts[k] = crc32_of_integers(values.subspan(before + k * size, size)); });
    return crc32_joined(crc, parts, size * sizeof(int32_t));
}

}  // namespace basic
