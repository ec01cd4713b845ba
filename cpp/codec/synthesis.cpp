#include "synthesis.hpp"

#include <algorithm>

#include "basic/pixels.hpp"

namespace basic::codec {

std::vector<Range> bands(const Model& model, const Canvas& canvas, Range rows) {
    constexpr size_t kPixels = 1 << 16;  // of a band, where that is a row of z or more
    const size_t align = model.constants().z_stride;
    const size_t height = std::max(align, kPixels / canvas.width / align * align);
    std::vector<Range> found;
    for (size_t first = rows.first; first < rows.last; first += height)
        found.push_back({first, std::min(first + height, rows.last)});
    return found;
}

PhasesInput phases_of(const Model& model, const Latents& latents, Range rows, float unit) {
    const VariantRecord& variant = latents.variant->record;
    const size_t stride = model.constants().y_stride * variant.tile,
                 group = model.constants().y_channels / variant.channel_groups;
    const size_t height = (rows.last - rows.first) / stride;
    std::vector<PhasesInput::Phase> phases;
    for (size_t stage = 0; stage < variant.stages.size(); ++stage) {
        const StageValues& stored = latents.stages[stage];
        const size_t plane = stored.height * stored.width;
        const float* values = stored.values.data() + rows.first / stride * stored.width;
        for (const Slot& slot : variant.stages[stage].slots) {
            phases.push_back({FloatInput(values, group, height, stored.width, static_cast<ptrdiff_t>(plane),
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
        // Rows that are not wanted are computed where wanted ones depend on them, all in whole multiples, so
        // that each band begins where all phases of the latents do.
        const size_t align = model_.constants().z_stride, reach = record_.reach * model_.constants().y_stride;
        const auto up = [&](size_t side) { return (side + align - 1) / align * align; };
        const Canvas& canvas = latents_.canvas;
        const size_t first = rows_.first / align * align;
        const Range rows = {first - std::min(first, up(reach)),
                            std::min(canvas.height, up(rows_.last) + up(reach))};
        NetStream stream(net_->net);
        size_t known = rows.first;
        for (const Range& band : bands(model_, canvas, rows))
            known = put(stream.advance(inputs(band), band.last == rows.last), known);
        if (known != rows.last) throw bad_model("a g_s gives no pixels");
    }

  private:
    std::vector<NetInput> inputs(const Range& band) const {
        const float unit = 1.0f / static_cast<float>(1 << model_.constants().mean_bits);
        return std::vector<NetInput>(net_->inputs.size(), phases_of(model_, latents_, band, unit));
    }

    // Pixels of patches from row `first` on, as far as they are wanted; returns the row after them.
    size_t put(const std::vector<NetOutput>& outputs, size_t first) {
        const auto* found =
            outputs.size() == 1 ? std::get_if<std::shared_ptr<const Plane>>(&outputs[0]) : nullptr;
        const size_t size = record_.shuffle;
        if (found == nullptr || (*found)->channels() != 3 * size * size ||
            (*found)->width() * size != latents_.canvas.width)
            throw bad_model("a g_s gives no pixels");
        const size_t last = first + (*found)->height() * size;
        const size_t top = std::max(first, rows_.first / size * size), bottom = std::min(last, rows_.last);
        if (top < bottom)
            model_.workers().each((bottom - top + size - 1) / size,
                                  [&](size_t row) { put_row_of_patches(**found, top + row * size, first); });
        return last;
    }

    // A row of patches, whose first row of pixels is `top`, of a plane that begins at row `start`.
    void put_row_of_patches(const Plane& plane, size_t top, size_t start) {
        const size_t size = record_.shuffle, width = plane.width() * size;
        std::vector<uint8_t> rgb(3 * width * size);
        put_patches(plane.at((top - start) / size, 0), plane.stride(), plane.width(), size,
                    record_.pixel_bits, rgb.data(), static_cast<ptrdiff_t>(3 * width));
        for (size_t y = std::max(top, rows_.first); y < std::min(top + size, rows_.last); ++y)
            put_row(rgb.data() + 3 * (y - top) * width, shape_.width,
                    pixels_ + (y - rows_.first) * shape_.width * shape_.colours());
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

void synthesise(const Model& model, const Shape& shape, const Latents& latents, uint32_t synthesis,
                Range rows, uint8_t* pixels) {
    Synthesis(model, shape, latents, synthesis, rows, pixels).run();
}

}  // namespace basic::codec
