#include "synthesis.hpp"

#include <algorithm>

#include "basic/pixels.hpp"

namespace basic::codec {

std::vector<Span> spans(Range part, size_t length, size_t side, size_t margin) {
    std::vector<Span> found;
    for (size_t first = part.first; first < part.last; first += side) {
        const size_t last = std::min(first + side, part.last);
        found.push_back({first - std::min(first, margin), std::min(length, last + margin), first, last});
    }
    return found;
}

PhasesInput phases_of(const Model& model, const Latents& latents, Range rows, Range columns, float unit) {
    const VariantRecord& variant = latents.variant->record;
    const size_t stride = model.constants().y_stride * variant.tile,
                 group = model.constants().y_channels / variant.channel_groups;
    const size_t height = (rows.last - rows.first) / stride, width = (columns.last - columns.first) / stride;
    std::vector<PhasesInput::Phase> phases;
    for (size_t stage = 0; stage < variant.stages.size(); ++stage) {
        const StageValues& stored = latents.stages[stage];
        const size_t plane = stored.height * stored.width;
        const float* values = stored.values.data() + rows.first / stride * stored.width + columns.first / stride;
        for (const Slot& slot : variant.stages[stage].slots) {
            phases.push_back({FloatInput(values, group, height, width, static_cast<ptrdiff_t>(plane),
                                         static_cast<ptrdiff_t>(stored.width)),
                              static_cast<size_t>(slot.group) * group, static_cast<size_t>(slot.row),
                              static_cast<size_t>(slot.column)});
            values += group * plane;
        }
    }
    return {std::move(phases), variant.tile, unit};
}

namespace {

class Synthesis {
  public:
    Synthesis(const Model& model, const Shape& shape, const Latents& latents, uint32_t number, Range rows,
              uint8_t* pixels)
        : model_(model),
          shape_(shape),
          latents_(latents),
          record_(model.synthesis(number)),
          net_(model.synthesis_net(number, shape.quality_step)),
          rows_(rows),
          pixels_(pixels) {}

    void run() {
        // All in whole multiples, so that each tile begins where all phases of the latents do.
        const size_t align = model_.constants().z_stride, reach = record_.reach * model_.constants().y_stride;
        const auto up = [&](size_t side) { return (side + align - 1) / align * align; };
        const Canvas& canvas = latents_.canvas;
        const Range wanted = {rows_.first / align * align, std::min(canvas.height, up(rows_.last))};
        for (const Span& rows : spans(wanted, canvas.height, kTileRows / align * align, up(reach)))
            for (const Span& columns : spans({0, canvas.width}, canvas.width, kTileColumns / align * align, up(reach)))
                tile(rows, columns);
    }

  private:
    void tile(const Span& rows, const Span& columns) {
        const float unit = 1.0f / static_cast<float>(1 << model_.constants().mean_bits);
        const auto latents = phases_of(model_, latents_, {rows.start, rows.stop}, {columns.start, columns.stop}, unit);
        const std::vector<NetInput> inputs(net_->inputs.size(), latents);
        const auto outputs = net_->net.run(inputs);
        const auto* found = outputs.size() == 1 ? std::get_if<std::shared_ptr<const Plane>>(&outputs[0]) : nullptr;
        const size_t size = record_.shuffle;
        if (found == nullptr || (*found)->channels() != 3 * size * size ||
            (*found)->height() * size != rows.stop - rows.start ||
            (*found)->width() * size != columns.stop - columns.start)
            throw bad_model("a g_s gives no pixels");
        const size_t first = std::max(rows.first, rows_.first / size * size), last = std::min(rows.last, rows_.last);
        if (first >= last) return;
        model_.workers().each((last - first + size - 1) / size,
                              [&](size_t row) { put_patches_of(**found, first + row * size, rows.start, columns); });
    }

    // A row of patches, whose first row of pixels is `top`, of a tile that begins at row `start`: as far as it is
    // wanted.
    void put_patches_of(const Plane& plane, size_t top, size_t start, const Span& columns) {
        const size_t size = record_.shuffle, width = plane.width() * size,
                     last = std::min<size_t>(columns.last, shape_.width);
        if (columns.first >= last) return;
        std::vector<uint8_t> rgb(3 * width * size);
        put_patches(plane.data() + plane.position((top - start) / size, 0) * plane.stride(), plane.stride(),
                    plane.width(), size, record_.pixel_bits, rgb.data(), static_cast<ptrdiff_t>(3 * width));
        for (size_t y = std::max(top, rows_.first); y < std::min(top + size, rows_.last); ++y)
            put_row(rgb.data() + 3 * ((y - top) * width + columns.first - columns.start), last - columns.first,
                    pixels_ + ((y - rows_.first) * shape_.width + columns.first) * shape_.colours());
    }

    void put_row(const uint8_t* rgb, size_t count, uint8_t* to) const {
        if (!shape_.gray) {
            std::copy_n(rgb, 3 * count, to);
            return;
        }
        for (size_t x = 0; x < count; ++x, rgb += 3)
            to[x] = static_cast<uint8_t>((rgb[0] + rgb[1] + rgb[2] + 1) / 3);  // the mean, rounded
    }

    const Model& model_;
    const Shape& shape_;
    const Latents& latents_;
    const SynthesisRecord& record_;
    std::shared_ptr<const Net> net_;
    const Range rows_;
    uint8_t* const pixels_;
};

}  // namespace

void synthesise(const Model& model, const Shape& shape, const Latents& latents, uint32_t synthesis, Range rows,
                uint8_t* pixels) {
    Synthesis(model, shape, latents, synthesis, rows, pixels).run();
}

}  // namespace basic::codec
