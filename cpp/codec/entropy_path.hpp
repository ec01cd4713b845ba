// h_s and the stages of a picture: what both ends of the coding do alike.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "model.hpp"

namespace basic::codec {

// The padded picture.
struct Canvas {
    size_t height, width;

    static Canvas of(const Model& model, uint32_t width, uint32_t height);
};

// yhat of a stage: (channels, height, width) of its slots, one after the other, as integers in float32.
struct StageValues {
    std::vector<float> values;
    size_t height, width;
};

// The latents of a picture, by stages.
struct Latents {
    std::shared_ptr<const Variant> variant;
    std::vector<StageValues> stages;
    Canvas canvas;
};

class EntropyPath {
  public:
    EntropyPath(const Model& model, std::shared_ptr<const Variant> variant, Canvas canvas);
    EntropyPath(const EntropyPath&) = delete;  // networks are given pointers to what is in here

    size_t stages() const { return latents_.stages.size(); }

    // Elements of z, and the rows of the coder's tables for them.
    size_t hyper_size() const { return model_.constants().z_channels * hyper_plane_; }
    std::vector<uint8_t> hyper_rows() const;

    // h_s, of whole numbers; comes first.
    void run_h_s(std::vector<float> z);

    // What a stage says of its elements, which are the channels of its slots, one after the other. Throws Error for a
    // model that does not fit together.
    struct Predicted {
        FloatOutput mean_output, scale_output;
        size_t size;
        std::span<const float> mean() const { return {mean_output.values.as<float>(), size}; }
        std::span<const float> scale() const { return {scale_output.values.as<float>(), size}; }
    };
    Predicted run_stage(size_t stage);

    // yhat of that stage, which later ones read.
    void put(size_t stage, std::vector<float> yhat);

    uint32_t checksum() const { return checksum_; }  // of yhat so far
    Latents take() { return std::move(latents_); }   // after the last stage

  private:
    std::vector<NetInput> gathered(const Net& net) const;
    std::map<std::string, FloatOutput> run(const Net& net);
    void forget(size_t stage);

    const Model& model_;
    Latents latents_;
    size_t hyper_plane_;
    std::vector<float> z_;
    std::map<std::string, NetInput> known_;
    uint32_t checksum_ = 0;
};

}  // namespace basic::codec
