// A packed model: levels of a bundle as integers (docs/model-file.md).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "basic/coder.hpp"
#include "basic/integer_net.hpp"
#include "container.hpp"
#include "kept.hpp"

namespace basic::codec {

inline constexpr size_t kScaleRows = 64;  // of the coder's tables; those of z follow

// A network and the names of what it reads and writes, in their order.
struct Net {
    std::vector<std::string> inputs, outputs;
    IntegerNet net;
};

// Elements of y of one channel group, in one phase of the rows and one of the columns.
struct Slot {
    int group, row, column;
    std::string name() const;
};

// What a file says of a layer or a network, which is made of it when it is needed. Arrays are named by their numbers.
struct LayerRecord {
    struct Term {
        size_t source, height, width, above, before, stride;
        uint32_t weights;
        std::optional<uint32_t> factor;  // of each output, times which weights of float16 are rounded
    };
    struct Skip {
        size_t source;
        uint32_t shift;
    };
    std::vector<Term> terms;
    std::vector<Skip> skips;
    uint32_t bias, shift, low, high;
    bool leak;
    size_t shuffle;
    std::optional<size_t> gate;
};

struct NetRecord {
    struct Reading {
        std::string name;
        uint32_t scale, low, high;
        size_t rate;
    };
    struct Output {
        std::string name;
        std::vector<PartSpec> parts;
    };
    std::vector<Reading> readings;
    std::vector<uint32_t> layers;
    std::vector<Output> outputs;
};

struct StageRecord {
    std::vector<Slot> slots;
    NetRecord net;
};

struct VariantRecord {
    size_t tile, channel_groups;
    NetRecord h_s;
    std::vector<StageRecord> stages;
};

struct SynthesisRecord {
    size_t reach, shuffle;
    int pixel_bits;
    std::optional<uint32_t> filters, gray_filters;  // arrays: the weights of all quality steps
    std::vector<NetRecord> nets;                    // one for each quality step
};

struct EncoderRecord {
    int entropy_variant;
    size_t reach, patch;              // of g_a, in pixels
    std::vector<NetRecord> g_a, h_a;  // for each quality step
};

// A model whose files can be decoded: the number of the g_s of each level, where it was packed.
struct Member {
    bool filtered;
    std::vector<std::optional<uint32_t>> syntheses;
};

// h_s and the stages, ready to run.
struct Variant {
    const VariantRecord& record;
    std::unique_ptr<const Net> h_s;
    std::vector<std::unique_ptr<const Net>> stages;
};

struct Constants {
    int mean_bits;
    int32_t z_amax;
    size_t y_channels, z_channels, y_stride, z_stride, quality_steps;
};

class Model {
  public:
    // Throws Error for bytes that are no packed model.
    Model(Bytes bytes, size_t threads);

    const std::string& name() const { return name_; }
    const ModelId& id() const { return id_; }
    const Constants& constants() const { return constants_; }
    const std::shared_ptr<const Tables>& tables() const { return tables_; }
    const std::vector<uint8_t>& index_lut() const { return index_lut_; }
    size_t threads() const { return threads_; }
    Workers& workers() const { return Workers::of(threads_); }

    // What the model knows of files with this model's id. Throws Error for another model's, or for a quality step that
    // this one has not; what follows is of files that this allowed.
    const Member& member(const Header& header) const;

    // The entropy variant of a file. Throws Error for one that was not packed.
    std::shared_ptr<const Variant> variant(const Header& header) const;

    const SynthesisRecord& synthesis(uint32_t number) const { return syntheses_[number]; }
    std::shared_ptr<const Net> synthesis_net(uint32_t number, int quality_step) const;

    // What encodes at a level; -1: at the highest that was packed. Throws Error for one that was not.
    int encoder_level(int level) const;
    const EncoderRecord& encoder(int level) const { return encoders_.at(level); }
    struct Analysis {
        std::unique_ptr<const Net> g_a, h_a;
    };
    std::shared_ptr<const Analysis> analysis(int level, int quality_step) const;

    // What a squared error of all colours of a pixel is worth in bits; nothing if that was not packed.
    std::optional<double> worth(int quality_step) const;

    // The filter of a g_s at a quality step; empty if it has none.
    std::vector<int8_t> filter(uint32_t synthesis, int quality_step, bool gray) const;

  private:
    struct Array {
        uint8_t type;
        size_t size;
        Bytes bytes;
    };

    void read_arrays(Reader& reader);
    void read_layers(Reader& reader);
    void read_head(Reader& reader);
    void read_coder(Reader& reader);
    void read_variants(Reader& reader);
    void read_syntheses(Reader& reader);
    void read_members(Reader& reader);
    void read_encoders(Reader& reader);
    LayerRecord read_layer(Reader& reader) const;
    size_t values_of(const LayerRecord& layer) const;
    void check_layers(const std::vector<uint32_t>& numbers) const;
    NetRecord read_net(Reader& reader) const;
    SynthesisRecord read_synthesis(Reader& reader) const;
    Member read_member(Reader& reader, bool filtered) const;
    uint32_t read_array_number(Reader& reader) const;
    std::optional<uint32_t> read_filters(Reader& reader, size_t colours) const;

    template <typename To>
    std::vector<To> array(uint32_t number) const;
    std::vector<int16_t> scaled(uint32_t weights, uint32_t factor) const;
    LayerSpec layer(const LayerRecord& record) const;
    std::unique_ptr<const Net> made(const NetRecord& record) const;

    std::vector<uint8_t> bytes_;
    size_t threads_;
    std::string name_;
    ModelId id_;
    Constants constants_;
    std::vector<Array> arrays_;
    std::vector<LayerRecord> layers_;
    std::shared_ptr<const Tables> tables_;
    std::vector<uint8_t> index_lut_;
    std::map<int, VariantRecord> variants_;
    std::vector<SynthesisRecord> syntheses_;
    std::map<ModelId, Member> members_;
    std::map<int, EncoderRecord> encoders_;
    std::vector<double> worth_;

    // What was made last: pictures of a kind come one after the other.
    mutable Kept<int, Variant, 256> made_variants_;  // all of them
    mutable Kept<std::pair<uint32_t, int>, Net, 1> synthesis_nets_;
    mutable Kept<std::pair<int, int>, Analysis, 1> analyses_;
};

}  // namespace basic::codec
