#include "model.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <type_traits>

#include "basic/checksum.hpp"
#include "basic/dots.hpp"
#include "basic/passes.hpp"
#include "basic/pixels.hpp"
#include "basic/post_filter.hpp"

namespace basic::codec {
namespace {

constexpr std::array<uint8_t, 8> kSignature = {0x89, 'B', 'S', 'M', '\r', '\n', 0x1A, '\n'};
constexpr uint32_t kVersion = 1, kNothing = 0xFFFFFFFF;
constexpr const char* kWhat = "the model";
constexpr size_t kSizes[] = {1, 1, 2, 2, 4, 4, 2, 8};  // bytes of a value by type
constexpr uint8_t kHalf = 6;                           // float16
constexpr float kLatentUnit = 1.0f / 4096;             // of the latents that g_a and h_a give
constexpr size_t kMostStride = 256;                    // of z: tiles are whole multiples of it
constexpr size_t kMostValues = 1 << 26;                // of the arrays of a network's layers
constexpr size_t kMostLevels = 8;

void require(bool holds, const char* what) {
    if (!holds) throw bad_model(what);
}

template <typename To>
constexpr uint8_t kType = std::is_same_v<To, uint8_t>    ? 0
                          : std::is_same_v<To, int8_t>   ? 1
                          : std::is_same_v<To, uint16_t> ? 2
                          : std::is_same_v<To, int16_t>  ? 3
                          : std::is_same_v<To, int32_t>  ? 4
                          : std::is_same_v<To, float>    ? 5
                                                         : 7;

// IEEE 754 binary16.
float from_half(uint16_t half) {
    const int exponent = half >> 10 & 31, fraction = half & 1023;
    const float magnitude = exponent == 0    ? std::ldexp(static_cast<float>(fraction), -24)
                            : exponent == 31 ? std::numeric_limits<float>::infinity()
                                             : std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
    return (half >> 15) != 0 ? -magnitude : magnitude;
}

template <typename Read>
auto read_list(Reader& reader, const Read& read) {
    std::vector<decltype(read())> found;
    for (size_t left = reader.number<uint16_t>(kWhat); left > 0; --left) found.push_back(read());
    return found;
}

std::string missing(const Header& header, const std::string& what) {
    return "the file was made at level " + std::to_string(header.level) + ", and the model was packed without " + what +
           ": pack it with --from-levels " + std::to_string(header.level) +
           ", or with --earlier if the file is of an earlier model";
}

}  // namespace

std::string Slot::name() const {
    return "y." + std::to_string(group) + "." + std::to_string(row) + std::to_string(column);
}

Model::Model(Bytes bytes, size_t threads) : bytes_(bytes.begin(), bytes.end()), threads_(threads) {
    Reader reader{Bytes(bytes_)};
    const Bytes head = reader.take(std::min(reader.left(), kSignature.size()), kWhat);
    if (!std::equal(head.begin(), head.end(), kSignature.begin(), kSignature.end()))
        throw Error(BASIC_DAMAGED, "this is no packed model: make one with basic-run pack");
    const auto version = reader.number<uint32_t>(kWhat);
    if (version != kVersion)
        throw Error(BASIC_DAMAGED,
                    "the model is of version " + std::to_string(version) +
                        ", and version 1 is the one read here: get a newer decoder, or pack it with an older one");
    const auto crc = reader.number<uint32_t>(kWhat);
    require(crc32(Bytes(bytes_).subspan(reader.position())) == crc, "wrong checksum");
    read_arrays(reader);
    read_layers(reader);
    read_head(reader);
    read_coder(reader);
    read_variants(reader);
    read_syntheses(reader);
    read_members(reader);
    read_encoders(reader);
    require(reader.left() == 0, "bytes follow its end");
}

void Model::read_arrays(Reader& reader) {
    for (auto left = reader.number<uint32_t>(kWhat); left > 0; --left) {
        const auto type = reader.number<uint8_t>(kWhat);
        require(type < std::size(kSizes), "an array of an unknown type");
        const size_t size = reader.number<uint32_t>(kWhat);
        require(size <= reader.left() / kSizes[type], "an array that it does not hold");
        arrays_.push_back({type, size, reader.take(size * kSizes[type], kWhat)});
    }
}

uint32_t Model::read_array_number(Reader& reader) const {
    const auto number = reader.number<uint32_t>(kWhat);
    require(number < arrays_.size(), "it names an array that is not there");
    return number;
}

template <typename To>
std::vector<To> Model::array(uint32_t number) const {
    const Array& array = arrays_[number];
    if (array.type == kType<To>) {
        std::vector<To> values(array.size);
        std::copy(array.bytes.begin(), array.bytes.end(), reinterpret_cast<uint8_t*>(values.data()));
        return values;
    }
    // Integers that all fit take one byte each.
    const bool wider = std::is_same_v<To, int16_t> || std::is_same_v<To, int32_t>;
    require(wider && array.type == kType<int8_t>, "an array of another type");
    std::vector<To> values(array.size);
    std::transform(array.bytes.begin(), array.bytes.end(), values.begin(),
                   [](uint8_t byte) { return static_cast<To>(static_cast<int8_t>(byte)); });
    return values;
}

void Model::read_layers(Reader& reader) {
    for (auto left = reader.number<uint32_t>(kWhat); left > 0; --left) layers_.push_back(read_layer(reader));
}

LayerRecord Model::read_layer(Reader& reader) const {
    LayerRecord layer;
    layer.terms = read_list(reader, [&] {
        LayerRecord::Term term;
        term.source = reader.number<uint16_t>(kWhat);
        term.height = reader.number<uint16_t>(kWhat);
        term.width = reader.number<uint16_t>(kWhat);
        term.above = reader.number<uint8_t>(kWhat);
        term.before = reader.number<uint8_t>(kWhat);
        term.stride = reader.number<uint8_t>(kWhat);
        term.weights = read_array_number(reader);
        const auto factor = reader.number<uint32_t>(kWhat);
        require(factor == kNothing || factor < arrays_.size(), "it names an array that is not there");
        if (factor != kNothing) term.factor = factor;
        return term;
    });
    layer.skips = read_list(reader, [&] {
        const auto source = reader.number<uint16_t>(kWhat);
        return LayerRecord::Skip{source, read_array_number(reader)};
    });
    for (uint32_t* number : {&layer.bias, &layer.shift, &layer.low, &layer.high}) *number = read_array_number(reader);
    layer.leak = reader.number<uint8_t>(kWhat) != 0;
    layer.shuffle = reader.number<uint8_t>(kWhat);
    const auto gate = reader.number<uint32_t>(kWhat);
    if (gate != kNothing) layer.gate = gate;
    return layer;
}

// The values of all arrays that it names.
size_t Model::values_of(const LayerRecord& layer) const {
    size_t values = 0;
    for (const auto& term : layer.terms)
        values += arrays_[term.weights].size + (term.factor ? arrays_[*term.factor].size : 0);
    for (const auto& skip : layer.skips) values += arrays_[skip.shift].size;
    for (const uint32_t number : {layer.bias, layer.shift, layer.low, layer.high}) values += arrays_[number].size;
    return values;
}

// A network is made of copies: a few bytes that name the same things again and again must not take all memory.
void Model::check_layers(const std::vector<uint32_t>& numbers) const {
    require(std::set(numbers.begin(), numbers.end()).size() == numbers.size(), "a network with the same layer twice");
    size_t values = 0;
    for (const uint32_t number : numbers) {
        values += values_of(layers_[number]);
        require(values <= kMostValues, "a network of too many weights");
    }
}

void Model::read_head(Reader& reader) {
    name_ = reader.text(kWhat);
    require(good_name(name_), "its name is none that files can have");
    id_ = reader.number<ModelId>(kWhat);
    constants_.mean_bits = reader.number<uint8_t>(kWhat);
    const auto z_amax = reader.number<uint32_t>(kWhat);
    for (size_t* number : {&constants_.y_channels, &constants_.z_channels, &constants_.y_stride, &constants_.z_stride})
        *number = reader.number<uint16_t>(kWhat);
    constants_.quality_steps = reader.number<uint8_t>(kWhat);
    constants_.z_amax = static_cast<int32_t>(z_amax);
    require(constants_.mean_bits <= kMaxMeanBits && z_amax <= kSymbolLimit, "its numbers are out of range");
    require(constants_.y_channels > 0 && constants_.z_channels > 0 && constants_.z_channels <= 256 - kScaleRows,
            "bad channels");
    require(constants_.y_stride > 0 && constants_.z_stride > 0 && constants_.z_stride <= kMostStride &&
                constants_.z_stride % constants_.y_stride == 0,
            "bad strides");
}

void Model::read_coder(Reader& reader) {
    uint32_t numbers[5];
    for (uint32_t& number : numbers) number = read_array_number(reader);
    // Offsets may lie in bytes, like any integers; the others never do.
    const auto freqs = array<uint16_t>(numbers[0]), sizes = array<uint16_t>(numbers[1]);
    const auto offsets = array<int32_t>(numbers[2]);
    const auto shifts = array<uint8_t>(numbers[3]);
    try {
        tables_ = std::make_shared<const Tables>(freqs, sizes, offsets, shifts);
    } catch (const std::invalid_argument& error) {
        throw bad_model(error.what());
    }
    require(tables_->rows() == kScaleRows + constants_.z_channels, "its coder has other rows than channels");
    index_lut_ = array<uint8_t>(numbers[4]);
    require(!index_lut_.empty() && *std::max_element(index_lut_.begin(), index_lut_.end()) < kScaleRows,
            "it looks up rows that are not there");
}

NetRecord Model::read_net(Reader& reader) const {
    NetRecord net;
    net.readings = read_list(reader, [&] {
        NetRecord::Reading reading;
        reading.name = reader.text(kWhat);
        for (uint32_t* number : {&reading.scale, &reading.low, &reading.high}) *number = read_array_number(reader);
        reading.rate = reader.number<uint8_t>(kWhat);
        return reading;
    });
    net.layers = read_list(reader, [&] {
        const auto number = reader.number<uint32_t>(kWhat);
        require(number < layers_.size(), "it names a layer that is not there");
        return number;
    });
    check_layers(net.layers);
    net.outputs = read_list(reader, [&] {
        NetRecord::Output output;
        output.name = reader.text(kWhat);
        output.parts = read_list(reader, [&] {
            PartSpec part;
            for (size_t* number : {&part.tensor, &part.first, &part.channels}) *number = reader.number<uint16_t>(kWhat);
            for (size_t* number : {&part.step, &part.row, &part.column}) *number = reader.number<uint8_t>(kWhat);
            return part;
        });
        return output;
    });
    return net;
}

void Model::read_variants(Reader& reader) {
    for (size_t left = reader.number<uint16_t>(kWhat); left > 0; --left) {
        const int number = reader.number<uint8_t>(kWhat);
        VariantRecord& variant = variants_[number];
        variant.tile = reader.number<uint8_t>(kWhat);
        variant.channel_groups = reader.number<uint8_t>(kWhat);
        const size_t tile = variant.tile, groups = variant.channel_groups;
        require(tile > 0 && constants_.z_stride % (tile * constants_.y_stride) == 0,
                "its tiles do not divide the latents");
        require(groups > 0 && constants_.y_channels % groups == 0, "its groups do not divide the channels");
        variant.h_s = read_net(reader);
        size_t slots = 0;
        variant.stages = read_list(reader, [&] {
            StageRecord stage;
            stage.slots = read_list(reader, [&] {
                Slot slot{};
                for (int* place : {&slot.group, &slot.row, &slot.column}) *place = reader.number<uint8_t>(kWhat);
                require(static_cast<size_t>(slot.group) < groups && static_cast<size_t>(slot.row) < tile &&
                            static_cast<size_t>(slot.column) < tile,
                        "a slot that is not in its tiles");
                return slot;
            });
            slots += stage.slots.size();
            stage.net = read_net(reader);
            return stage;
        });
        require(slots == groups * tile * tile, "its stages do not make a latent");
    }
}

std::optional<uint32_t> Model::read_filters(Reader& reader, size_t colours) const {
    const auto number = reader.number<uint32_t>(kWhat);
    if (number == kNothing) return std::nullopt;
    require(number < arrays_.size() && arrays_[number].type == kType<int8_t> &&
                arrays_[number].size == constants_.quality_steps * filter_weights(colours),
            "its filters have other weights");
    return number;
}

SynthesisRecord Model::read_synthesis(Reader& reader) const {
    SynthesisRecord synthesis;
    synthesis.reach = reader.number<uint16_t>(kWhat);
    synthesis.shuffle = reader.number<uint8_t>(kWhat);
    synthesis.pixel_bits = reader.number<uint8_t>(kWhat);
    require(synthesis.shuffle > 0 && synthesis.shuffle <= kMaxPatch && synthesis.pixel_bits >= 1 &&
                synthesis.pixel_bits <= 16,
            "its pixels are of an unknown kind");
    synthesis.filters = read_filters(reader, 3);
    synthesis.gray_filters = read_filters(reader, 1);
    for (size_t step = 0; step < constants_.quality_steps; ++step) synthesis.nets.push_back(read_net(reader));
    return synthesis;
}

void Model::read_syntheses(Reader& reader) {
    syntheses_ = read_list(reader, [&] { return read_synthesis(reader); });
}

Member Model::read_member(Reader& reader, bool filtered) const {
    Member member{filtered, read_list(reader, [&] {
                      const auto number = reader.number<uint32_t>(kWhat);
                      require(number == kNothing || number < syntheses_.size(), "it names a g_s that is not there");
                      return number == kNothing ? std::nullopt : std::optional(number);
                  })};
    require(member.syntheses.size() <= kMostLevels, "it has more levels than files can name");
    return member;
}

void Model::read_members(Reader& reader) {
    members_.emplace(id_, read_member(reader, true));
    for (size_t left = reader.number<uint16_t>(kWhat); left > 0; --left) {
        const auto id = reader.number<ModelId>(kWhat);
        const bool filtered = reader.number<uint8_t>(kWhat) != 0;
        members_.emplace(id, read_member(reader, filtered));
    }
}

void Model::read_encoders(Reader& reader) {
    const auto worth = reader.number<uint32_t>(kWhat);
    require(worth == kNothing || worth < arrays_.size(), "it names an array that is not there");
    if (worth != kNothing) worth_ = array<double>(worth);
    require(worth_.empty() || worth_.size() == constants_.quality_steps,
            "it does not say what bits are worth at each quality");
    for (size_t left = reader.number<uint16_t>(kWhat); left > 0; --left) {
        const auto level = reader.number<uint8_t>(kWhat);
        const auto& syntheses = members_.at(id_).syntheses;
        require(level < syntheses.size() && syntheses[level], "an encoder without its g_s");
        EncoderRecord& encoder = encoders_[level];
        encoder.entropy_variant = reader.number<uint8_t>(kWhat);
        encoder.reach = reader.number<uint16_t>(kWhat);
        encoder.patch = reader.number<uint8_t>(kWhat);
        require(variants_.contains(encoder.entropy_variant), "an encoder without its entropy path");
        require(encoder.patch > 0 && encoder.patch <= kMaxPatch && constants_.y_stride % encoder.patch == 0,
                "bad patches");
        for (auto* nets : {&encoder.g_a, &encoder.h_a}) {
            nets->clear();
            for (size_t step = 0; step < constants_.quality_steps; ++step) nets->push_back(read_net(reader));
        }
    }
}

int Model::encoder_level(int level) const {
    if (encoders_.empty())
        throw Error(BASIC_WRONG_MODEL, "the model was packed without encoders: pack it with --encoders");
    if (level < 0) return encoders_.rbegin()->first;
    if (!encoders_.contains(level))
        throw Error(BASIC_WRONG_MODEL, "the model was packed without an encoder of level " + std::to_string(level) +
                                           ": pack it with --encoders --levels " + std::to_string(level));
    return level;
}

std::optional<double> Model::worth(int quality_step) const {
    return worth_.empty() ? std::nullopt : std::optional(worth_[static_cast<size_t>(quality_step)]);
}

std::shared_ptr<const Model::Analysis> Model::analysis(int level, int quality_step) const {
    const EncoderRecord& record = encoders_.at(level);
    const auto step = static_cast<size_t>(quality_step);
    return analyses_.of({level, quality_step}, [&] {
        return std::make_shared<const Analysis>(Analysis{made(record.g_a[step]), made(record.h_a[step])});
    });
}

const Member& Model::member(const Header& header) const {
    if (static_cast<size_t>(header.quality_step) >= constants_.quality_steps)
        throw Error(BASIC_WRONG_MODEL, "the model has no quality step " + std::to_string(header.quality_step));
    const auto found = members_.find(header.model_id);
    if (found != members_.end()) return found->second;
    throw Error(BASIC_WRONG_MODEL, "the file was made with model " + header.model_name + " (" + hex(header.model_id) +
                                       "), and this is " + name_ + " (" + hex(id_) + "): pack that model");
}

// The products of weights and the factor of their output, rounded to nearest, halves to even.
std::vector<int16_t> Model::scaled(uint32_t weights, uint32_t factor) const {
    const Array& halves = arrays_[weights];
    const auto factors = array<float>(factor);
    require(halves.type == kHalf && !factors.empty() && halves.size % factors.size() == 0, "weights of another type");
    const size_t each = halves.size / factors.size();
    std::vector<int16_t> values(halves.size);
    for (size_t k = 0; k < values.size(); ++k) {
        const auto half = static_cast<uint16_t>(halves.bytes[2 * k] | halves.bytes[2 * k + 1] << 8);
        const float value = std::nearbyint(from_half(half) * factors[k / each]);
        require(value >= INT16_MIN && value <= INT16_MAX, "weights that are too large");
        values[k] = static_cast<int16_t>(value);
    }
    return values;
}

LayerSpec Model::layer(const LayerRecord& record) const {
    LayerSpec spec;
    for (const auto& term : record.terms)
        spec.terms.push_back({term.source, term.height, term.width, term.above, term.before,
                              term.factor ? scaled(term.weights, *term.factor) : array<int16_t>(term.weights),
                              term.stride});
    for (const auto& skip : record.skips) spec.skips.push_back({skip.source, array<int32_t>(skip.shift)});
    spec.bias = array<int32_t>(record.bias);
    spec.shift = array<int32_t>(record.shift);
    spec.low = array<int32_t>(record.low);
    spec.high = array<int32_t>(record.high);
    spec.leak = record.leak;
    spec.shuffle = record.shuffle;
    spec.gate = record.gate;
    return spec;
}

std::unique_ptr<const Net> Model::made(const NetRecord& record) const {
    std::vector<std::string> inputs, outputs;
    std::vector<InputSpec> input_specs;
    for (const auto& reading : record.readings) {
        inputs.push_back(reading.name);
        const auto scale = array<float>(reading.scale);
        input_specs.push_back(
            {scale.size(), scale, array<float>(reading.low), array<float>(reading.high), reading.rate});
    }
    std::vector<LayerSpec> layer_specs;
    for (const uint32_t number : record.layers) layer_specs.push_back(layer(layers_[number]));
    std::vector<OutputSpec> output_specs;
    for (const auto& output : record.outputs) {
        outputs.push_back(output.name);
        // Means and scales are for the coder, latents to be rounded, all else for other networks.
        const bool latents = output.name == "y" || output.name == "z",
                   coded = output.name == "mean" || output.name == "scale";
        output_specs.push_back({output.parts, !latents && !coded, latents ? kLatentUnit : 1});
    }
    try {
        return std::unique_ptr<const Net>(
            new Net{std::move(inputs), std::move(outputs),
                    IntegerNet(std::move(input_specs), std::move(layer_specs), std::move(output_specs), workers())});
    } catch (const NetError& error) {
        throw bad_model(error.what());
    }
}

std::shared_ptr<const Variant> Model::variant(const Header& header) const {
    const auto found = variants_.find(header.entropy_variant);
    if (found == variants_.end()) throw Error(BASIC_WRONG_MODEL, missing(header, "that level's entropy path"));
    return made_variants_.of(header.entropy_variant, [&] {
        auto variant = std::make_shared<Variant>(Variant{found->second, made(found->second.h_s), {}});
        for (const StageRecord& stage : found->second.stages) variant->stages.push_back(made(stage.net));
        return variant;
    });
}

std::shared_ptr<const Net> Model::synthesis_net(uint32_t number, int quality_step) const {
    const auto& nets = syntheses_[number].nets;
    const auto step = static_cast<size_t>(quality_step);
    return synthesis_nets_.of({number, quality_step}, [&] { return made(nets[step]); });
}

std::vector<int8_t> Model::filter(uint32_t synthesis, int quality_step, bool gray) const {
    const auto& numbers = syntheses_[synthesis];
    const auto& number = gray ? numbers.gray_filters : numbers.filters;
    if (!number) return {};
    const auto weights = array<int8_t>(*number);
    const size_t size = filter_weights(gray ? 1 : 3);
    const auto first = weights.begin() + static_cast<ptrdiff_t>(size * static_cast<size_t>(quality_step));
    return {first, first + static_cast<ptrdiff_t>(size)};
}

}  // namespace basic::codec
