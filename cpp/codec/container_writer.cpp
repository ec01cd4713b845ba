#include <algorithm>
#include <array>
#include <cstdlib>

#include "basic/checksum.hpp"
#include "container.hpp"
#include "zlib_streams.hpp"

namespace basic::codec {
namespace {

void put_number(std::vector<uint8_t>& to, uint32_t value) {
    for (const int shift : {0, 8, 16, 24}) to.push_back(static_cast<uint8_t>(value >> shift));
}

void put_varint(std::vector<uint8_t>& to, uint32_t value) {
    for (; value > 0x7F; value >>= 7) to.push_back(static_cast<uint8_t>((value & 0x7F) | 0x80));
    to.push_back(static_cast<uint8_t>(value));
}

// The checksum of all from `start` on.
void put_crc(std::vector<uint8_t>& to, size_t start) { put_number(to, crc32(Bytes(to).subspan(start))); }

void put_header(std::vector<uint8_t>& to, const Header& header) {
    const size_t start = to.size();
    to.push_back(1);
    to.push_back(static_cast<uint8_t>(header.model_name.size()));
    to.insert(to.end(), header.model_name.begin(), header.model_name.end());
    to.insert(to.end(), header.model_id.begin(), header.model_id.end());
    put_varint(to, header.width);
    put_varint(to, header.height);
    to.push_back(static_cast<uint8_t>(static_cast<int>(header.gray) | header.level << 1 | header.decode_level << 4));
    to.push_back(static_cast<uint8_t>(header.entropy_variant));
    to.push_back(static_cast<uint8_t>(header.quality_step));
    put_number(to, header.yhat_crc);
    put_crc(to, start);
}

void put_chunk(std::vector<uint8_t>& to, const std::string& type, Bytes payload) {
    if (payload.size() > kMaxChunkBytes)
        throw Error(BASIC_TOO_LARGE, "chunk " + type + " has more bytes than are allowed: split the picture");
    const size_t start = to.size();
    to.insert(to.end(), type.begin(), type.end());
    put_varint(to, static_cast<uint32_t>(payload.size()));
    to.insert(to.end(), payload.begin(), payload.end());
    put_crc(to, start);
}

// The row less what filter `number` foretells, and the sum of magnitudes of that.
uint64_t filter_row(int number, const uint8_t* row, const uint8_t* above, size_t width, uint8_t* to) {
    uint64_t sum = 0;
    uint8_t before = 0;
    for (size_t x = 0; x < width; ++x) {
        const auto rest = static_cast<uint8_t>(row[x] - ((number & 2) != 0 && above != nullptr ? above[x] : 0));
        to[x] = static_cast<uint8_t>(rest - ((number & 1) != 0 ? before : 0));
        before = rest;
        sum += std::min(to[x], static_cast<uint8_t>(-to[x]));
    }
    return sum;
}

std::vector<uint8_t> joined(uint8_t method, Bytes rest) {
    std::vector<uint8_t> payload(1 + rest.size(), method);
    std::copy(rest.begin(), rest.end(), payload.begin() + 1);
    return payload;
}

// Bits of a weight in the Rice code of a parameter.
size_t code_length(int8_t weight, int rice) {
    return weight == 0 ? 1 : 3 + static_cast<size_t>(rice) + static_cast<size_t>((std::abs(int{weight}) - 1) >> rice);
}

size_t packed_bits(const std::vector<int8_t>& weights, int rice) {
    size_t bits = 0;
    for (const int8_t weight : weights) bits += code_length(weight, rice);
    return bits;
}

// Bits to bytes, the most significant first.
class BitString {
  public:
    void put(unsigned bit) {
        if (used_ % 8 == 0) bytes_.push_back(0);
        bytes_.back() = static_cast<uint8_t>(bytes_.back() | bit << (7 - used_++ % 8));
    }
    const std::vector<uint8_t>& bytes() const { return bytes_; }

  private:
    std::vector<uint8_t> bytes_;
    size_t used_ = 0;
};

}  // namespace

std::vector<uint8_t> pack_metadata(Bytes data) {
    if (data.size() > kMaxMetadata)
        throw Error(BASIC_TOO_LARGE,
                    "metadata of " + std::to_string(data.size()) + " bytes, and 16 MiB are allowed: leave some out");
    std::vector<uint8_t> packed;
    put_varint(packed, static_cast<uint32_t>(data.size()));
    const std::vector<uint8_t> stream = deflate(data);
    packed.insert(packed.end(), stream.begin(), stream.end());
    return packed.size() < data.size() ? joined(1, packed) : joined(0, data);
}

std::vector<uint8_t> pack_alpha(const std::vector<uint8_t>& alpha, uint32_t width, uint32_t height) {
    if (is_constant(alpha)) return joined(0, Bytes(alpha).first(1));
    // All rows as they are, or each with its filter: whichever gets smaller.
    std::vector<uint8_t> plain(height);
    plain.insert(plain.end(), alpha.begin(), alpha.end());
    const std::vector<uint8_t> first = deflate(plain), second = deflate(filtered_alpha(alpha, width, height));
    return joined(1, second.size() < first.size() ? second : first);
}

bool is_constant(const std::vector<uint8_t>& alpha) {
    return std::all_of(alpha.begin(), alpha.end(), [&](uint8_t value) { return value == alpha[0]; });
}

std::vector<uint8_t> filtered_alpha(const std::vector<uint8_t>& alpha, uint32_t width, uint32_t height) {
    std::vector<uint8_t> filtered(height + alpha.size()), candidate(width);
    for (size_t row = 0; row < height; ++row) {
        const uint8_t* const line = alpha.data() + row * width;
        uint64_t least = UINT64_MAX;
        for (int number = 0; number < 4; ++number) {
            const uint64_t sum = filter_row(number, line, row == 0 ? nullptr : line - width, width, candidate.data());
            if (sum >= least) continue;
            least = sum;
            filtered[row] = static_cast<uint8_t>(number);
            std::copy(candidate.begin(), candidate.end(),
                      filtered.begin() + static_cast<ptrdiff_t>(height + row * width));
        }
    }
    return filtered;
}

std::vector<uint8_t> pack_filter(const std::vector<int8_t>& weights) {
    int rice = 0;
    for (int other = 1; other < 8; ++other)
        if ((packed_bits(weights, other) + 7) / 8 < (packed_bits(weights, rice) + 7) / 8) rice = other;
    BitString bits;
    for (const int8_t weight : weights) {
        bits.put(weight != 0 ? 1 : 0);
        if (weight == 0) continue;
        const auto rest = static_cast<unsigned>(std::abs(int{weight}) - 1);
        bits.put(weight < 0 ? 1 : 0);
        for (unsigned k = rest >> rice; k > 0; --k) bits.put(1);
        bits.put(0);
        for (int bit = rice - 1; bit >= 0; --bit) bits.put(rest >> bit & 1);
    }
    return joined(static_cast<uint8_t>(rice), bits.bytes());
}

std::vector<uint8_t> write_container(const Header& header, const Chunks& chunks) {
    std::vector<uint8_t> file(kFileSignature.begin(), kFileSignature.end());
    put_header(file, header);
    for (const auto& [type, payload] : chunks) put_chunk(file, type, payload);
    return file;
}

}  // namespace basic::codec
