// A cursor over bytes that may end too early, or hold anything. All numbers are little-endian.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

#include "errors.hpp"

namespace basic::codec {

static_assert(std::endian::native == std::endian::little, "numbers are read as they lie");

using Bytes = std::span<const uint8_t>;

class Reader {
  public:
    explicit Reader(Bytes bytes) : bytes_(bytes) {}

    size_t position() const { return position_; }
    size_t left() const { return bytes_.size() - position_; }
    Bytes since(size_t start) const { return bytes_.subspan(start, position_ - start); }

    // `what` names what is read, for the error if the bytes end.
    Bytes take(size_t size, const char* what) {
        if (size > left())
            throw damaged(std::string("the file is cut off in ") + what + " (" + std::to_string(size) +
                          " bytes should follow and " + std::to_string(left()) + " do)");
        position_ += size;
        return bytes_.subspan(position_ - size, size);
    }

    template <typename Number>
    Number number(const char* what) {
        Number value;
        std::memcpy(&value, take(sizeof value, what).data(), sizeof value);
        return value;
    }

    // A length in one byte, and as many characters.
    std::string text(const char* what) {
        const Bytes bytes = take(number<uint8_t>(what), what);
        return {bytes.begin(), bytes.end()};
    }

    // Unsigned LEB128 below 2^32, in its shortest form.
    uint32_t varint(const char* what) {
        uint64_t value = 0;
        for (int index = 0; index < 5; ++index) {
            const auto byte = number<uint8_t>(what);
            value |= uint64_t{byte & 0x7Fu} << 7 * index;
            if (byte >= 0x80) continue;
            if (value >> 32 != 0 || (index > 0 && byte == 0)) break;
            return static_cast<uint32_t>(value);
        }
        throw damaged(std::string(what) + " is damaged (bad length field)");
    }

  private:
    Bytes bytes_;
    size_t position_ = 0;
};

}  // namespace basic::codec
