#include "encode.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "basic/coder.hpp"
#include "basic/passes.hpp"
#include "basic/pixels.hpp"
#include "filter_choice.hpp"
#include "synthesis.hpp"

namespace basic::codec {
namespace {

// y of g_a, band by band, as the stages order its elements.
class AnalysisPass {
  public:
    AnalysisPass(const Model& model, const ConstPicture& picture, const EncoderRecord& record, const Net& g_a,
                 Latents& y)
        : model_(model),
          picture_(picture),
          record_(record),
          g_a_(g_a),
          canvas_(y.canvas),
          stride_(model.constants().y_stride),
          y_(y) {
        const VariantRecord& variant = y.variant->record;
        const size_t step = stride_ * variant.tile, height = canvas_.height / step,
                     width = canvas_.width / step;
        const size_t group = model.constants().y_channels / variant.channel_groups;
        for (const StageRecord& stage : variant.stages)
            y.stages.push_back(
                {std::vector<float>(stage.slots.size() * group * height * width), height, width});
    }

    void run() {
        NetStream stream(g_a_.net);
        size_t known = 0;
        for (const Range& band : bands(model_, canvas_, {0, canvas_.height})) {
            const Memory patches = patches_of(band);
            const size_t channels = 3 * record_.patch * record_.patch, width = canvas_.width / record_.patch;
            const PartInput input{patches.as<int16_t>(),
                                  channels,
                                  (band.last - band.first) / record_.patch,
                                  width,
                                  static_cast<ptrdiff_t>(width * channels),
                                  static_cast<ptrdiff_t>(channels)};
            known = keep(
                stream.advance(std::vector<NetInput>(g_a_.inputs.size(), input), band.last == canvas_.height),
                known);
        }
        if (known * stride_ != canvas_.height) throw bad_model("a g_a that gives no latents");
    }

  private:
    // Patches of these rows, as g_a reads them.
    Memory patches_of(const Range& rows) const {
        const size_t size = record_.patch, width = canvas_.width / size, row_size = 3 * size * size * width;
        Memory patches((rows.last - rows.first) / size * row_size * sizeof(int16_t));
        model_.workers().each((rows.last - rows.first) / size, [&](size_t row) {
            std::vector<uint8_t> rgb(row_size);
            for (size_t line = 0; line < size; ++line)
                read_row(rows.first + row * size + line, rgb.data() + 3 * line * canvas_.width);
            take_patches(rgb.data(), static_cast<ptrdiff_t>(3 * canvas_.width), width, size,
                         patches.as<int16_t>() + row * row_size);
        });
        return patches;
    }

    // A row of the padded picture, three bytes for each pixel. Beyond the picture, edges repeat.
    void read_row(size_t y, uint8_t* rgb) const {
        const uint8_t* const row =
            picture_.pixels + static_cast<ptrdiff_t>(std::min(y, picture_.rows - 1)) * picture_.row_stride;
        for (size_t x = 0; x < canvas_.width; ++x, rgb += 3) {
            const uint8_t* const pixel = row + std::min(x, picture_.columns - 1) * picture_.colours;
            for (size_t c = 0; c < 3; ++c) rgb[c] = pixel[picture_.colours == 1 ? 0 : c];
        }
    }

    // Rows of y from `first` on to their places; returns the row after them.
    size_t keep(const std::vector<NetOutput>& outputs, size_t first) {
        const auto* found = outputs.size() == 1 ? std::get_if<FloatOutput>(&outputs[0]) : nullptr;
        if (found == nullptr || found->channels != model_.constants().y_channels ||
            found->width * stride_ != canvas_.width)
            throw bad_model("a g_a that gives no latents");
        const VariantRecord& variant = y_.variant->record;
        const size_t group = model_.constants().y_channels / variant.channel_groups;
        for (size_t stage = 0; stage < variant.stages.size(); ++stage) {
            StageValues& stored = y_.stages[stage];
            float* to = stored.values.data();
            for (const Slot& slot : variant.stages[stage].slots)
                for (size_t channel = 0; channel < group; ++channel, to += stored.height * stored.width)
                    keep_channel(*found, static_cast<size_t>(slot.group) * group + channel, slot, first, to,
                                 stored.width);
        }
        return first + found->height;
    }

    // A slot's rows of a channel of y, whose first row is `first`.
    void keep_channel(const FloatOutput& found, size_t channel, const Slot& slot, size_t first, float* to,
                      size_t width) const {
        const size_t tile = y_.variant->record.tile;
        for (size_t row = 0; row < found.height; ++row) {
            if ((first + row) % tile != static_cast<size_t>(slot.row)) continue;
            const float* from =
                found.values.as<float>() + (channel * found.height + row) * found.width + slot.column;
            float* const at = to + (first + row) / tile * width;
            for (size_t column = 0; column < width; ++column) at[column] = from[column * tile];
        }
    }

    const Model& model_;
    const ConstPicture& picture_;
    const EncoderRecord& record_;
    const Net& g_a_;
    const Canvas canvas_;
    const size_t stride_;
    Latents& y_;
};

// z of y, as whole numbers within the range of the coder's tables.
std::vector<float> hyper_latents(const Model& model, const Net& h_a, const Latents& y) {
    const Constants& constants = model.constants();
    const Canvas& canvas = y.canvas;
    const auto outputs =
        h_a.net.run(std::vector<NetInput>(h_a.inputs.size(), phases_of(model, y, {0, canvas.height}, 1)));
    const auto* found = outputs.size() == 1 ? std::get_if<FloatOutput>(&outputs[0]) : nullptr;
    const size_t size =
        constants.z_channels * (canvas.height / constants.z_stride) * (canvas.width / constants.z_stride);
    if (found == nullptr || found->channels * found->height * found->width != size)
        throw bad_model("an h_a that gives no hyper-latents");
    std::vector<float> z(found->values.as<float>(), found->values.as<float>() + size);
    const auto most = static_cast<float>(constants.z_amax);
    for (float& value : z) value = std::clamp(std::floor(value + 0.5f), -most, most);
    return z;
}

struct Coded {
    std::vector<uint8_t> stream;
    uint32_t checksum;
    Latents latents;
};

Coded coded(const Model& model, const ConstPicture& picture, const Header& header) {
    const Canvas canvas = Canvas::of(model, header.width, header.height);
    const auto analysis = model.analysis(header.level, header.quality_step);
    Latents y{model.variant(header), {}, canvas};
    AnalysisPass(model, picture, model.encoder(header.level), *analysis->g_a, y).run();
    std::vector<float> z = hyper_latents(model, *analysis->h_a, y);
    EntropyPath path(model, y.variant, canvas);
    Encoder encoder(model.tables());
    encoder.put(std::span<const int32_t>(std::vector<int32_t>(z.begin(), z.end())), path.hyper_rows());
    path.run_h_s(std::move(z));
    for (size_t stage = 0; stage < path.stages(); ++stage) {
        const std::vector<float> part = std::move(y.stages[stage].values);  // no other stage reads it
        const EntropyPath::Predicted predicted = path.run_stage(stage);
        std::vector<int32_t> symbols(part.size());
        std::vector<uint8_t> rows(part.size());
        std::vector<float> yhat(part.size());
        quantise(part, predicted.mean(), predicted.scale(), model.index_lut(), model.constants().mean_bits,
                 symbols, rows, yhat);
        encoder.put(std::span<const int32_t>(symbols), rows);
        path.put(stage, std::move(yhat));
    }
    return {encoder.finish(), path.checksum(), path.take()};
}

}  // namespace

std::vector<uint8_t> encode(const Model& model, const ConstPicture& picture, const EncodeSettings& settings,
                            Chunks extras) {
    Header header;
    header.model_name = model.name();
    header.model_id = model.id();
    header.width = static_cast<uint32_t>(picture.columns);
    header.height = static_cast<uint32_t>(picture.rows);
    header.gray = picture.colours == 1;
    header.level = header.decode_level = model.encoder_level(settings.level);
    header.entropy_variant = model.encoder(header.level).entropy_variant;
    header.quality_step = settings.quality_step;
    model.member(header);  // which has the quality step
    const auto worth = model.worth(settings.quality_step);
    if (settings.effort > 0 && !worth)
        throw Error(BASIC_WRONG_MODEL, "the model does not say what a bit is worth: encode with effort 0");
    Coded found = coded(model, picture, header);
    header.yhat_crc = found.checksum;
    if (settings.effort != 0 && worth) {
        const auto weights = worthwhile_filter(model, picture, header, found.latents, *worth);
        if (weights) extras.emplace_back("filt", pack_filter(*weights));
    }
    extras.emplace_back("CODE", std::move(found.stream));
    return write_container(header, extras);
}

}  // namespace basic::codec
