// The .basic file, as docs/format.md specifies it.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "reader.hpp"

namespace basic::codec {

using ModelId = std::array<uint8_t, 4>;

std::string hex(const ModelId& id);

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

// Header and chunks of a file. Throws Error for one that is damaged, or larger than `max_pixels`.
Container read_container(Bytes file, uint64_t max_pixels);

// The data of a chunk of metadata: iccp, exif, xmpd.
std::vector<uint8_t> unpack_metadata(Bytes payload, const char* type);

// The alpha plane, width * height bytes.
std::vector<uint8_t> unpack_alpha(Bytes payload, uint32_t width, uint32_t height);

// The same from what the zlib stream of a filtered plane holds: a filter for each row, then the residuals.
std::vector<uint8_t> unfiltered_alpha(std::vector<uint8_t> raw, uint32_t width, uint32_t height);

// The weights of a chunk `filt`, as post_filter takes them.
std::vector<int8_t> unpack_filter(Bytes payload, bool gray);

}  // namespace basic::codec
