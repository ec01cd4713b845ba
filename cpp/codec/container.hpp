// The .basic file, as docs/format.md specifies it: read by container.cpp, written by container_writer.cpp.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "reader.hpp"

namespace basic::codec {

using ModelId = std::array<uint8_t, 4>;

std::string hex(const ModelId& id);

// Whether files can be of a model of this name.
bool good_name(const std::string& name);

struct Header {
    std::string model_name;
    ModelId model_id;
    uint32_t width, height;
    bool gray;
    int level, decode_level, entropy_variant, quality_step;
    uint32_t yhat_crc;
};

struct Container {
    Header header;
    std::map<std::string, Bytes> chunks;  // payloads by type; the checksums of all were right

    std::optional<Bytes> chunk(const char* type) const;
};

inline constexpr uint64_t kMaxPixels = 128'000'000;
inline constexpr size_t kMaxMetadata = 16 << 20, kMaxChunkBytes = size_t{1} << 30;
inline constexpr uint64_t kMaxFileBytes = uint64_t{1} << 31;
inline constexpr std::array<uint8_t, 8> kFileSignature = {0x89, 'B', 'S', 'C', '\r', '\n', 0x1A, '\n'};

// Throws Error for a picture that is larger than that, or than what a side may have.
void check_size(uint32_t width, uint32_t height, uint64_t max_pixels);

// Header and chunks of a file. Throws Error for one that is damaged, or larger than `max_pixels`.
Container read_container(Bytes file, uint64_t max_pixels);

// The data of a chunk of metadata: iccp, exif, xmpd.
std::vector<uint8_t> unpack_metadata(Bytes payload, const char* type);

// The alpha plane, width * height bytes.
std::vector<uint8_t> unpack_alpha(Bytes payload, uint32_t width, uint32_t height);

// The same from what the zlib stream of a filtered plane holds: a filter for each row, then the residuals.
std::vector<uint8_t> unfiltered_alpha(std::vector<uint8_t> raw, uint32_t width, uint32_t height);

// The payload of a chunk of metadata, and of one for an alpha plane.
std::vector<uint8_t> pack_metadata(Bytes data);
std::vector<uint8_t> pack_alpha(const std::vector<uint8_t>& alpha, uint32_t width, uint32_t height);

// Whether one byte says all of an alpha plane; and what the zlib stream of another may hold: for each row the filter
// that leaves the smallest numbers, then the residuals.
bool is_constant(const std::vector<uint8_t>& alpha);
std::vector<uint8_t> filtered_alpha(const std::vector<uint8_t>& alpha, uint32_t width, uint32_t height);

// The payload of a chunk `filt`.
std::vector<uint8_t> pack_filter(const std::vector<int8_t>& weights);

// A file: its chunks in their order, of which CODE is the last.
using Chunks = std::vector<std::pair<std::string, std::vector<uint8_t>>>;
std::vector<uint8_t> write_container(const Header& header, const Chunks& chunks);

// The weights of a chunk `filt`, as post_filter takes them.
std::vector<int8_t> unpack_filter(Bytes payload, bool gray);

}  // namespace basic::codec
