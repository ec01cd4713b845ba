// Bits beside the ANS words: raw low bits of wide rows and exact values of escapes. First bit = lowest bit.
#pragma once

#include <cstdint>
#include <vector>

namespace basic {

class BitWriter {
  public:
    // Appends the low count (0..33) bits of value; higher bits of value must be zero.
    void put(uint64_t value, int count) {
        pending_ |= value << held_;
        held_ += count;
        if (held_ >= 24) flush_bytes();
    }

    // All bits so far, the last byte filled with zeros.
    const std::vector<uint8_t>& bytes() {
        flush_bytes();
        if (held_ > 0) {
            bytes_.push_back(static_cast<uint8_t>(pending_));
            pending_ = 0;
            held_ = 0;
        }
        return bytes_;
    }

    void clear() {
        bytes_.clear();
        pending_ = 0;
        held_ = 0;
    }

  private:
    void flush_bytes() {
        for (; held_ >= 8; held_ -= 8, pending_ >>= 8) bytes_.push_back(static_cast<uint8_t>(pending_));
    }

    std::vector<uint8_t> bytes_;
    uint64_t pending_ = 0;
    int held_ = 0;  // bits in pending_: below 24 between calls
};

}  // namespace basic
