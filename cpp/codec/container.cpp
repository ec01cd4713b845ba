#include "container.hpp"

#include <algorithm>
#include <cstdlib>

#include "basic/checksum.hpp"
#include "basic/post_filter.hpp"
#include "zlib_streams.hpp"

namespace basic::codec {
namespace {

constexpr uint32_t kMaxSide = 65'535;
constexpr size_t kMaxChunks = 64;

void check_signature(Reader& reader) {
    const Bytes head = reader.take(std::min(reader.left(), kFileSignature.size()), "the signature");
    const bool begins = std::equal(head.begin(), head.end(), kFileSignature.begin());
    if (begins && head.size() == kFileSignature.size()) return;
    if (begins) throw damaged(head.empty() ? "the file is empty" : "the file is cut off in the signature");
    throw Error(BASIC_DAMAGED, "this is no .basic file, or it was transferred in text mode: check its name");
}

void check_crc(Reader& reader, size_t start, const char* what) {
    const uint32_t computed = crc32(reader.since(start));
    if (reader.number<uint32_t>(what) != computed) throw damaged(std::string(what) + " is damaged (wrong checksum)");
}

Header read_header(Reader& reader) {
    check_signature(reader);
    constexpr const char* kWhat = "the header";
    const size_t start = reader.position();
    const auto version = reader.number<uint8_t>(kWhat);
    if (version != 1)
        throw Error(BASIC_DAMAGED, "this is version " + std::to_string(version) +
                                       " of the format, and version 1 is the one read here: get a newer decoder");
    Header header;
    header.model_name = reader.text(kWhat);
    header.model_id = reader.number<ModelId>(kWhat);
    header.width = reader.varint(kWhat);
    header.height = reader.varint(kWhat);
    const auto mode = reader.number<uint8_t>(kWhat);
    header.entropy_variant = reader.number<uint8_t>(kWhat);
    header.quality_step = reader.number<uint8_t>(kWhat);
    header.yhat_crc = reader.number<uint32_t>(kWhat);
    check_crc(reader, start, kWhat);
    if ((mode & 0x80) != 0) throw Error(BASIC_DAMAGED, "the header uses a reserved bit: get a newer decoder");
    header.gray = (mode & 1) != 0;
    header.level = mode >> 1 & 7;
    header.decode_level = mode >> 4 & 7;
    if (!good_name(header.model_name) || header.width == 0 || header.height == 0 || header.quality_step > 63)
        throw damaged("the header makes no sense");
    return header;
}

struct Chunk {
    std::string type;
    Bytes payload;
};

Chunk read_chunk(Reader& reader) {
    const size_t start = reader.position();
    if (reader.left() == 0) throw damaged("the file is cut off before its coded data (chunk CODE)");
    const Bytes kind = reader.take(4, "the type of a chunk");
    const auto is_upper = [](uint8_t c) { return c >= 'A' && c <= 'Z'; };
    const auto is_letter = [&](uint8_t c) { return is_upper(c) || (c >= 'a' && c <= 'z'); };
    if (!std::all_of(kind.begin(), kind.end(), is_letter)) throw damaged("the type of a chunk is damaged");
    const std::string type(kind.begin(), kind.end()), what = "chunk " + type;
    const Bytes payload = reader.take(reader.varint(what.c_str()), what.c_str());
    if (payload.size() > kMaxChunkBytes)
        throw Error(BASIC_TOO_LARGE, what + " has more bytes than are allowed: split the picture");
    check_crc(reader, start, what.c_str());
    if (is_upper(kind[0]) && type != "CODE" && type != "ALPH")
        throw Error(BASIC_DAMAGED, "the file needs the unknown feature " + type + ": get a newer decoder");
    return {type, payload};
}

// Bits of bytes, the most significant first.
class Bits {
  public:
    explicit Bits(Bytes bytes) : bytes_(bytes) {}
    bool next() {
        if (position_ / 8 == bytes_.size()) throw Bits::damage();
        const bool bit = (bytes_[position_ / 8] >> (7 - position_ % 8) & 1) != 0;
        ++position_;
        return bit;
    }
    // What is left must be zeros that fill the last byte.
    void end() {
        if (bytes_.size() != (position_ + 7) / 8) throw damage();
        while (position_ % 8 != 0)
            if (next()) throw damage();
    }
    static Error damage() { return damaged("the filter of the picture (chunk filt) is damaged"); }

  private:
    Bytes bytes_;
    size_t position_ = 0;
};

int8_t read_weight(Bits& bits, int rice) {
    if (!bits.next()) return 0;
    const bool negative = bits.next();
    int quotient = 0;
    while (bits.next())
        if (++quotient << rice > 127) throw Bits::damage();
    int low = 0;
    for (int bit = 0; bit < rice; ++bit) low = low << 1 | static_cast<int>(bits.next());
    const int value = (quotient << rice | low) + 1;
    if (value > 127 + static_cast<int>(negative)) throw Bits::damage();
    return static_cast<int8_t>(negative ? -value : value);
}

}  // namespace

void check_size(uint32_t width, uint32_t height, uint64_t max_pixels) {
    const std::string size = "the picture is " + std::to_string(width) + "x" + std::to_string(height) + " pixels, and ";
    if (std::max(width, height) > kMaxSide)
        throw Error(BASIC_TOO_LARGE, size + "a side may have " + std::to_string(kMaxSide) + ": split it");
    if (uint64_t{width} * height > max_pixels)
        throw Error(BASIC_TOO_LARGE,
                    size + std::to_string(max_pixels) + " in all are allowed: allow more if you trust the file");
}

std::string hex(const ModelId& id) {
    constexpr const char* kDigits = "0123456789abcdef";
    std::string text;
    for (const uint8_t byte : id) text += {kDigits[byte >> 4], kDigits[byte & 15]};
    return text;
}

bool good_name(const std::string& name) {
    const auto known = [](unsigned char c) {
        return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
               c == '-';
    };
    return !name.empty() && name.size() <= 15 && std::all_of(name.begin(), name.end(), known);
}

std::optional<Bytes> Container::chunk(const char* type) const {
    const auto found = chunks.find(type);
    return found == chunks.end() ? std::nullopt : std::optional(found->second);
}

Container read_container(Bytes file, uint64_t max_pixels) {
    Reader reader(file);
    Container found{read_header(reader), {}};
    check_size(found.header.width, found.header.height, max_pixels);
    for (std::string type; type != "CODE";) {
        if (found.chunks.size() == kMaxChunks)
            throw Error(BASIC_TOO_LARGE, "the file has more than 64 chunks: get it again");
        Chunk chunk = read_chunk(reader);
        type = chunk.type;
        if (!found.chunks.emplace(type, chunk.payload).second) throw damaged("chunk " + type + " is there twice");
    }
    if (reader.left() != 0) throw damaged(std::to_string(reader.left()) + " bytes follow the end of the file's data");
    return found;
}

std::vector<uint8_t> unpack_metadata(Bytes payload, const char* type) {
    const std::string what = std::string("chunk ") + type;
    Reader reader(payload);
    const auto method = reader.number<uint8_t>(what.c_str());
    if (method > 1) throw Error(BASIC_DAMAGED, what + " is packed in an unknown way: get a newer decoder");
    const size_t size = method == 0 ? reader.left() : reader.varint(what.c_str());
    if (size == 0) throw damaged(what + " is empty");
    if (size > kMaxMetadata)
        throw Error(BASIC_TOO_LARGE, what + " has " + std::to_string(size) + " bytes, and 16 MiB are allowed");
    const Bytes rest = reader.take(reader.left(), what.c_str());
    return method == 0 ? std::vector<uint8_t>(rest.begin(), rest.end()) : inflate(rest, size, what.c_str());
}

std::vector<uint8_t> unpack_alpha(Bytes payload, uint32_t width, uint32_t height) {
    if (payload.size() == 2 && payload[0] == 0) return std::vector<uint8_t>(size_t{width} * height, payload[1]);
    if (payload.size() < 2 || payload[0] != 1)
        throw Error(BASIC_DAMAGED, "the alpha plane is coded in an unknown way: a newer decoder may read it");
    return unfiltered_alpha(inflate(payload.subspan(1), size_t{height} * (size_t{width} + 1), "the alpha plane"), width,
                            height);
}

std::vector<uint8_t> unfiltered_alpha(std::vector<uint8_t> raw, uint32_t width, uint32_t height) {
    const std::vector<uint8_t> filters(raw.begin(), raw.begin() + height);
    if (*std::max_element(filters.begin(), filters.end()) > 3)
        throw damaged("the alpha plane names an unknown row filter");
    raw.erase(raw.begin(), raw.begin() + height);
    for (size_t row = 0; row < height; ++row) {
        uint8_t* const line = raw.data() + row * width;
        if ((filters[row] & 1) != 0)
            for (size_t x = 1; x < width; ++x) line[x] = static_cast<uint8_t>(line[x] + line[x - 1]);
        if ((filters[row] & 2) != 0 && row > 0) {
            const uint8_t* const above = raw.data() + (row - 1) * width;
            for (size_t x = 0; x < width; ++x) line[x] = static_cast<uint8_t>(line[x] + above[x]);
        }
    }
    return raw;
}

std::vector<int8_t> unpack_filter(Bytes payload, bool gray) {
    if (payload.empty() || payload[0] > 7)
        throw Error(BASIC_DAMAGED, "the filter of the picture is of an unknown kind: get a newer decoder");
    Bits bits(payload.subspan(1));
    std::vector<int8_t> weights(filter_weights(gray ? 1 : 3));
    for (int8_t& weight : weights) weight = read_weight(bits, payload[0]);
    bits.end();
    return weights;
}

}  // namespace basic::codec
