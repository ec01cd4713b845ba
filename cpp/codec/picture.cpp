#include "picture.hpp"

#include <algorithm>
#include <cstdlib>

#include "basic/checksum.hpp"
#include "basic/passes.hpp"
#include "basic/pixels.hpp"
#include "basic/post_filter.hpp"

namespace basic::codec {
namespace {

constexpr size_t kScaleRows = 64;
constexpr size_t kTileRows = 1024, kTileColumns = 2048;  // of the tiles of g_s, without their margins

// The padded picture.
struct Canvas {
    size_t height, width;
};

// yhat of a stage: (channels, height, width) of its slots, one after the other, as integers in float32.
struct StageValues {
    std::vector<float> values;
    size_t height, width;
};

// The latents of a picture, as its stages decoded them.
struct Latents {
    std::shared_ptr<const Variant> variant;
    std::vector<StageValues> stages;
    Canvas canvas;
};

class LatentDecoder {
  public:
    LatentDecoder(const Model& model, const Container& file)
        : model_(model), file_(file), decoder_(open()), latents_{model.variant(file.header), {}, canvas()} {}

    Latents run() {
        const Variant& variant = *latents_.variant;
        const std::vector<float> z = hyper_latent();
        const auto [height, width] = at(model_.constants().z_stride);
        for (const std::string& name : variant.h_s->inputs)
            inputs_.emplace(name, FloatInput(z.data(), model_.constants().z_channels, height, width));
        keep(*variant.h_s, variant.h_s->net.run(gathered(*variant.h_s)));
        latents_.stages.resize(variant.stages.size());  // whose values networks point to
        for (size_t stage = 0; stage < variant.stages.size(); ++stage) run_stage(stage);
        decoder_.finish();
        if (checksum_ != file_.header.yhat_crc)
            throw Error(BASIC_DESYNC, "the decoded latents do not match the file's checksum: the file or the model is damaged");
        return std::move(latents_);
    }

  private:
    struct Size {
        size_t height, width;
    };

    Decoder open() const {
        const auto stream = file_.chunk("CODE");
        return {model_.tables(), *stream};
    }

    Canvas canvas() const {
        const size_t align = model_.constants().z_stride;
        const auto padded = [&](size_t side) { return (side + align - 1) / align * align; };
        return {padded(file_.header.height), padded(file_.header.width)};
    }

    Size at(size_t stride) const { return {latents_.canvas.height / stride, latents_.canvas.width / stride}; }

    std::vector<float> hyper_latent() {
        const auto [height, width] = at(model_.constants().z_stride);
        const size_t channels = model_.constants().z_channels, plane = height * width;
        std::vector<uint8_t> rows(channels * plane);
        for (size_t channel = 0; channel < channels; ++channel)
            std::fill_n(rows.begin() + static_cast<ptrdiff_t>(channel * plane), plane, static_cast<uint8_t>(kScaleRows + channel));
        std::vector<int32_t> symbols(rows.size());
        decoder_.get(rows, std::span(symbols));
        for (const int32_t symbol : symbols)
            if (std::abs(int64_t{symbol}) > model_.constants().z_amax) throw damaged("the coded latents are damaged (z is out of range)");
        return {symbols.begin(), symbols.end()};
    }

    std::vector<NetInput> gathered(const Net& net) const {
        std::vector<NetInput> found;
        for (const std::string& name : net.inputs) {
            const auto input = inputs_.find(name);
            if (input == inputs_.end()) throw Error(BASIC_DAMAGED, "the model is damaged (nothing gives " + name + "): pack it again");
            found.push_back(input->second);
        }
        return found;
    }

    // Planes are there for later networks; returns the others, which are for the coder.
    std::map<std::string, FloatOutput> keep(const Net& net, std::vector<NetOutput> outputs) {
        std::map<std::string, FloatOutput> floats;
        for (size_t k = 0; k < outputs.size(); ++k)
            if (auto* plane = std::get_if<std::shared_ptr<const Plane>>(&outputs[k]))
                inputs_.insert_or_assign(net.outputs[k], NetInput(*plane));
            else
                floats.emplace(net.outputs[k], std::move(std::get<FloatOutput>(outputs[k])));
        return floats;
    }

    void run_stage(size_t stage) {
        const VariantRecord& record = latents_.variant->record;
        const Net& net = *latents_.variant->stages[stage];
        const auto [height, width] = at(model_.constants().y_stride * record.tile);
        const size_t slot_size = model_.constants().y_channels / record.channel_groups * height * width;
        const size_t size = slot_size * record.stages[stage].slots.size();
        auto found = keep(net, net.net.run(gathered(net)));
        const auto [mean, scale] = std::pair(values(found, "mean", size), values(found, "scale", size));

        std::vector<uint8_t> rows(size);
        indexes_from_scale(scale, model_.index_lut(), rows);
        std::vector<int32_t> symbols(size);
        decoder_.get(rows, std::span(symbols));
        StageValues& decoded = latents_.stages[stage];
        decoded = {std::vector<float>(size), height, width};
        dequantise(symbols, mean, model_.constants().mean_bits, decoded.values);
        checksum_ = crc32_of_integers(decoded.values, checksum_, model_.workers());
        const float* slot_values = decoded.values.data();
        for (const Slot& slot : record.stages[stage].slots) {
            inputs_.insert_or_assign(slot.name(), FloatInput(slot_values, slot_size / (height * width), height, width));
            slot_values += slot_size;
        }
        forget(stage);
    }

    static std::span<const float> values(std::map<std::string, FloatOutput>& found, const char* name, size_t size) {
        const auto place = found.find(name);
        if (place == found.end()) throw Error(BASIC_DAMAGED, "the model is damaged (a stage without scales): pack it again");
        FloatOutput& output = place->second;
        if (output.channels * output.height * output.width != size)
            throw Error(BASIC_DAMAGED, "the model is damaged (a stage of other channels): pack it again");
        return {output.values.as<float>(), size};
    }

    // What no stage after this one reads.
    void forget(size_t stage) {
        const auto& stages = latents_.variant->stages;
        std::erase_if(inputs_, [&](const auto& input) {
            return std::none_of(stages.begin() + static_cast<ptrdiff_t>(stage) + 1, stages.end(), [&](const auto& later) {
                return std::find(later->inputs.begin(), later->inputs.end(), input.first) != later->inputs.end();
            });
        });
    }

    const Model& model_;
    const Container& file_;
    Decoder decoder_;
    Latents latents_;
    std::map<std::string, NetInput> inputs_;
    uint32_t checksum_ = 0;
};

// A part of one axis of the picture: `start` to `stop` is computed, `first` to `last` counts.
struct Span {
    size_t start, stop, first, last;
};

std::vector<Span> spans(size_t length, size_t side, size_t margin) {
    std::vector<Span> found;
    for (size_t first = 0; first < length; first += side) {
        const size_t last = std::min(first + side, length);
        found.push_back({first - std::min(first, margin), std::min(length, last + margin), first, last});
    }
    return found;
}

// Puts pixels together from the tiles of g_s.
class Synthesis {
  public:
    Synthesis(const Model& model, const Header& header, const Latents& latents, uint32_t number, uint8_t* pixels)
        : model_(model), header_(header), latents_(latents), record_(model.synthesis(number)),
          net_(model.synthesis_net(number, header.quality_step)), colours_(colours_of(header)), pixels_(pixels) {}

    void run() {
        // Margins in whole multiples, so that each tile begins where all phases of the latents do.
        const size_t align = model_.constants().z_stride, reach = record_.reach * model_.constants().y_stride;
        const size_t margin = (reach + align - 1) / align * align;
        for (const Span& rows : spans(latents_.canvas.height, kTileRows / align * align, margin))
            for (const Span& columns : spans(latents_.canvas.width, kTileColumns / align * align, margin)) tile(rows, columns);
    }

  private:
    void tile(const Span& rows, const Span& columns) {
        const std::vector<NetInput> inputs(net_->inputs.size(), latent(rows, columns));
        auto outputs = net_->net.run(inputs);
        const auto* found = outputs.size() == 1 ? std::get_if<std::shared_ptr<const Plane>>(&outputs[0]) : nullptr;
        const size_t size = record_.shuffle;
        if (found == nullptr || (*found)->channels() != 3 * size * size || (*found)->height() * size != rows.stop - rows.start ||
            (*found)->width() * size != columns.stop - columns.start)
            throw Error(BASIC_DAMAGED, "the model is damaged (a g_s that gives no pixels): pack it again");
        const Plane& plane = **found;
        const size_t first = (rows.first - rows.start) / size;
        const size_t count = (std::min<size_t>(rows.last, header_.height) - std::min<size_t>(rows.first, header_.height) + size - 1) / size;
        model_.workers().each(count, [&](size_t row) { put_row(plane, first + row, rows.start, columns); });
    }

    // What g_s reads for a tile: its part of each slot.
    PhasesInput latent(const Span& rows, const Span& columns) const {
        const VariantRecord& variant = latents_.variant->record;
        const size_t stride = model_.constants().y_stride * variant.tile, group = model_.constants().y_channels / variant.channel_groups;
        const size_t top = rows.start / stride, left = columns.start / stride;
        const size_t height = (rows.stop - rows.start) / stride, width = (columns.stop - columns.start) / stride;
        std::vector<PhasesInput::Phase> phases;
        for (size_t stage = 0; stage < variant.stages.size(); ++stage) {
            const StageValues& stored = latents_.stages[stage];
            const size_t plane = stored.height * stored.width;
            const float* values = stored.values.data() + top * stored.width + left;
            for (const Slot& slot : variant.stages[stage].slots) {
                phases.push_back({FloatInput(values, group, height, width, static_cast<ptrdiff_t>(plane),
                                             static_cast<ptrdiff_t>(stored.width)),
                                  static_cast<size_t>(slot.group) * group, static_cast<size_t>(slot.row),
                                  static_cast<size_t>(slot.column)});
                values += group * plane;
            }
        }
        return {std::move(phases), variant.tile, 1.0f / static_cast<float>(1 << model_.constants().mean_bits)};
    }

    // A row of patches of a tile to the rows of pixels that it stands for, as far as they are in the picture.
    void put_row(const Plane& plane, size_t row, size_t start, const Span& columns) {
        const size_t size = record_.shuffle, width = plane.width() * size;
        std::vector<uint8_t> rgb(3 * width * size);
        const auto stride = static_cast<ptrdiff_t>(3 * width);
        put_patches(plane.data() + plane.position(row, 0) * plane.stride(), plane.stride(), plane.width(), size, record_.pixel_bits,
                    rgb.data(), stride);
        const size_t last = std::min<size_t>(columns.last, header_.width);
        if (columns.first >= last) return;
        for (size_t line = 0; line < size; ++line) {
            const size_t y = start + row * size + line;
            if (y >= header_.height) return;
            const uint8_t* from = rgb.data() + 3 * (line * width + columns.first - columns.start);
            uint8_t* const to = pixels_ + (y * header_.width + columns.first) * colours_;
            if (colours_ == 3)
                std::copy_n(from, 3 * (last - columns.first), to);
            else
                for (size_t x = 0; x < last - columns.first; ++x, from += 3)
                    to[x] = static_cast<uint8_t>((from[0] + from[1] + from[2] + 1) / 3);  // the mean, rounded
        }
    }

    const Model& model_;
    const Header& header_;
    const Latents& latents_;
    const SynthesisRecord& record_;
    std::shared_ptr<const Net> net_;
    size_t colours_;
    uint8_t* pixels_;
};

// The g_s of a level; of those that were packed the nearest to what a file suggests, where nobody wants a certain one.
uint32_t chosen(const Member& member, int wanted, int suggested) {
    const auto& known = member.syntheses;
    const auto has = [&](int level) { return level >= 0 && level < static_cast<int>(known.size()) && known[static_cast<size_t>(level)]; };
    if (wanted >= 0) {
        if (!has(wanted))
            throw Error(BASIC_WRONG_MODEL, "the model was packed without level " + std::to_string(wanted) + " for this file: pack it with --levels " +
                                               std::to_string(wanted));
        return *known[static_cast<size_t>(wanted)];
    }
    for (int away = 0; away < static_cast<int>(known.size()); ++away)
        for (const int level : {suggested - away, suggested + away})
            if (has(level)) return *known[static_cast<size_t>(level)];
    throw Error(BASIC_WRONG_MODEL, "the file is of an earlier model, whose levels were not packed: pack the model with --earlier");
}

std::vector<int8_t> filter_of(const Model& model, const Container& file, const Member& member, uint32_t synthesis) {
    const Header& header = file.header;
    const auto level = static_cast<size_t>(header.decode_level);
    const bool suggested = level < member.syntheses.size() && member.syntheses[level] && *member.syntheses[level] == synthesis;
    const auto chunk = file.chunk("filt");
    const auto own = chunk ? unpack_filter(*chunk, header.gray) : std::vector<int8_t>();  // damage shows, used or not
    if (chunk && suggested) return own;
    return member.filtered ? model.filter(synthesis, header.quality_step, header.gray) : std::vector<int8_t>();
}

}  // namespace

void decode_pixels(const Model& model, const Container& file, int level, uint8_t* pixels) {
    const Header& header = file.header;
    const Member& member = model.member(header);
    const uint32_t synthesis = chosen(member, level, header.decode_level);
    const std::vector<int8_t> weights = filter_of(model, file, member, synthesis);
    const Latents latents = LatentDecoder(model, file).run();
    Synthesis(model, header, latents, synthesis, pixels).run();
    if (weights.empty()) return;
    const size_t colours = colours_of(header);
    post_filter({pixels, static_cast<ptrdiff_t>(header.width * colours), header.height, header.width, colours}, weights, model.threads());
}

}  // namespace basic::codec
