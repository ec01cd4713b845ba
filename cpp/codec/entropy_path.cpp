#include "entropy_path.hpp"

#include <algorithm>

#include "basic/checksum.hpp"

namespace basic::codec {

Canvas Canvas::of(const Model& model, uint32_t width, uint32_t height) {
    const size_t align = model.constants().z_stride;
    const auto padded = [&](size_t side) { return (side + align - 1) / align * align; };
    return {padded(height), padded(width)};
}

EntropyPath::EntropyPath(const Model& model, std::shared_ptr<const Variant> variant, Canvas canvas)
    : model_(model), latents_{std::move(variant), {}, canvas} {
    const size_t stride = model.constants().z_stride;
    hyper_plane_ = (canvas.height / stride) * (canvas.width / stride);
    latents_.stages.resize(latents_.variant->stages.size());  // whose values networks are given pointers to
}

std::vector<uint8_t> EntropyPath::hyper_rows() const {
    std::vector<uint8_t> rows(hyper_size());
    for (size_t k = 0; k < rows.size(); ++k) rows[k] = static_cast<uint8_t>(kScaleRows + k / hyper_plane_);
    return rows;
}

void EntropyPath::run_h_s(std::vector<float> z) {
    z_ = std::move(z);
    const Constants& constants = model_.constants();
    const Net& h_s = *latents_.variant->h_s;
    for (const std::string& name : h_s.inputs)
        known_.insert_or_assign(name,
                                FloatInput(z_.data(), constants.z_channels, latents_.canvas.height / constants.z_stride,
                                           latents_.canvas.width / constants.z_stride));
    run(h_s);
}

std::vector<NetInput> EntropyPath::gathered(const Net& net) const {
    std::vector<NetInput> found;
    for (const std::string& name : net.inputs) {
        const auto input = known_.find(name);
        if (input == known_.end()) throw bad_model("nothing gives " + name);
        found.push_back(input->second);
    }
    return found;
}

// Planes are there for later networks; returns the others, which are for the coder.
std::map<std::string, FloatOutput> EntropyPath::run(const Net& net) {
    std::vector<NetOutput> outputs = net.net.run(gathered(net));
    std::map<std::string, FloatOutput> floats;
    for (size_t k = 0; k < outputs.size(); ++k)
        if (auto* plane = std::get_if<std::shared_ptr<const Plane>>(&outputs[k]))
            known_.insert_or_assign(net.outputs[k], NetInput(*plane));
        else
            floats.emplace(net.outputs[k], std::move(std::get<FloatOutput>(outputs[k])));
    return floats;
}

EntropyPath::Predicted EntropyPath::run_stage(size_t stage) {
    const VariantRecord& record = latents_.variant->record;
    const size_t stride = model_.constants().y_stride * record.tile;
    const size_t plane = (latents_.canvas.height / stride) * (latents_.canvas.width / stride);
    const size_t channels = model_.constants().y_channels / record.channel_groups * record.stages[stage].slots.size();
    auto found = run(*latents_.variant->stages[stage]);
    const auto take = [&](const char* name) {
        const auto output = found.find(name);
        if (output == found.end() || output->second.channels != channels ||
            output->second.height * output->second.width != plane)
            throw bad_model("a stage gives no " + std::string(name) + " of its slots");
        return std::move(output->second);
    };
    FloatOutput mean = take("mean");
    return {std::move(mean), take("scale"), channels * plane};
}

void EntropyPath::put(size_t stage, std::vector<float> yhat) {
    const VariantRecord& record = latents_.variant->record;
    const size_t stride = model_.constants().y_stride * record.tile,
                 group = model_.constants().y_channels / record.channel_groups;
    StageValues& stored = latents_.stages[stage];
    stored = {std::move(yhat), latents_.canvas.height / stride, latents_.canvas.width / stride};
    checksum_ = crc32_of_integers(stored.values, checksum_, model_.workers());
    const float* values = stored.values.data();
    for (const Slot& slot : record.stages[stage].slots) {
        known_.insert_or_assign(slot.name(), FloatInput(values, group, stored.height, stored.width));
        values += group * stored.height * stored.width;
    }
    forget(stage);
}

// What no stage after this one reads.
void EntropyPath::forget(size_t stage) {
    const auto& stages = latents_.variant->stages;
    std::erase_if(known_, [&](const auto& known) {
        return std::none_of(stages.begin() + static_cast<ptrdiff_t>(stage) + 1, stages.end(), [&](const auto& later) {
            return std::find(later->inputs.begin(), later->inputs.end(), known.first) != later->inputs.end();
        });
    });
}

}  // namespace basic::codec
