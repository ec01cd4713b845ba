#include "stream_header.hpp"

#include <bit>

#include "basic/coder.hpp"

namespace basic {
namespace {

constexpr uint8_t kLanesMask = 7;
constexpr uint8_t kSideFlag = 8;

void write_varint(uint64_t value, std::vector<uint8_t>& out) {
    for (; value >= 128; value >>= 7) out.push_back(static_cast<uint8_t>(value | 128));
    out.push_back(static_cast<uint8_t>(value));
}

uint8_t take_byte(std::span<const uint8_t>& bytes) {
    if (bytes.empty()) throw StreamError("coder stream: truncated header");
    const uint8_t byte = bytes.front();
    bytes = bytes.subspan(1);
    return byte;
}

uint64_t read_varint(std::span<const uint8_t>& bytes) {
    uint64_t value = 0;
    for (int shift = 0; shift < 63; shift += 7) {
        const uint8_t byte = take_byte(bytes);
        value |= uint64_t{byte & 127u} << shift;
        if (byte < 128) {
            if (byte == 0 && shift > 0) break;  // not the shortest form
            return value;
        }
    }
    throw StreamError("coder stream: bad number in header");
}

}  // namespace

void write_header(const StreamHeader& header, std::vector<uint8_t>& out) {
    const int log2_lanes = std::countr_zero(static_cast<unsigned>(header.lanes));
    out.push_back(static_cast<uint8_t>(log2_lanes | (header.side_bytes > 0 ? kSideFlag : 0)));
    if (header.lanes > 1) write_varint(header.body_symbols, out);
    if (header.side_bytes > 0) write_varint(header.side_bytes, out);
}

StreamHeader read_header(std::span<const uint8_t>& bytes) {
    const uint8_t flags = take_byte(bytes);
    const int log2_lanes = flags & kLanesMask;
    if (flags & ~(kLanesMask | kSideFlag)) throw StreamError("coder stream: unknown flags");
    if ((1 << log2_lanes) > kMaxLanes) throw StreamError("coder stream: bad lane count");
    StreamHeader header;
    header.lanes = 1 << log2_lanes;
    if (header.lanes > 1) header.body_symbols = read_varint(bytes);
    if (flags & kSideFlag) {
        header.side_bytes = read_varint(bytes);
        if (header.side_bytes == 0) throw StreamError("coder stream: bad number in header");
    }
    return header;
}

}  // namespace basic
