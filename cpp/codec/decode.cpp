#include "decode.hpp"

#include <cstdlib>

#include "basic/passes.hpp"
#include "basic/post_filter.hpp"
#include "synthesis.hpp"

namespace basic::codec {
namespace {

Latents decode_latents(const Model& model, const Container& file) {
    const Constants& constants = model.constants();
    Decoder decoder(model.tables(), *file.chunk("CODE"));
    EntropyPath path(model, model.variant(file.header), Canvas::of(model, file.header.width, file.header.height));
    std::vector<int32_t> symbols(path.hyper_size());
    decoder.get(path.hyper_rows(), std::span(symbols));
    for (const int32_t symbol : symbols)
        if (std::abs(int64_t{symbol}) > constants.z_amax)
            throw damaged("the coded latents are damaged (z is out of range)");
    path.run_h_s({symbols.begin(), symbols.end()});
    for (size_t stage = 0; stage < path.stages(); ++stage) {
        const EntropyPath::Predicted predicted = path.run_stage(stage);
        std::vector<uint8_t> rows(predicted.size);
        indexes_from_scale(predicted.scale(), model.index_lut(), rows);
        symbols.resize(predicted.size);
        decoder.get(rows, std::span(symbols));
        std::vector<float> yhat(predicted.size);
        dequantise(symbols, predicted.mean(), constants.mean_bits, yhat);
        path.put(stage, std::move(yhat));
    }
    decoder.finish();
    if (path.checksum() != file.header.yhat_crc)
        throw Error(BASIC_DESYNC,
                    "the decoded latents do not match the file's checksum: the file or the model is damaged");
    return path.take();
}

// The g_s of a level; of those that were packed the nearest to what a file suggests, where nobody wants a certain one.
uint32_t chosen(const Member& member, int wanted, int suggested) {
    const auto& known = member.syntheses;
    const auto has = [&](int level) {
        return level >= 0 && level < static_cast<int>(known.size()) && known[static_cast<size_t>(level)];
    };
    if (wanted >= 0) {
        if (!has(wanted))
            throw Error(BASIC_WRONG_MODEL, "the model was packed without level " + std::to_string(wanted) +
                                               " for this file: pack it with --levels " + std::to_string(wanted));
        return *known[static_cast<size_t>(wanted)];
    }
    for (int away = 0; away < static_cast<int>(known.size()); ++away)
        for (const int level : {suggested - away, suggested + away})
            if (has(level)) return *known[static_cast<size_t>(level)];
    throw Error(BASIC_WRONG_MODEL,
                "the file is of an earlier model, whose levels were not packed: pack the model with --earlier");
}

std::vector<int8_t> filter_of(const Model& model, const Container& file, const Member& member, uint32_t synthesis) {
    const Header& header = file.header;
    const auto level = static_cast<size_t>(header.decode_level);
    const bool suggested =
        level < member.syntheses.size() && member.syntheses[level] && *member.syntheses[level] == synthesis;
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
    const Latents latents = decode_latents(model, file);
    const Shape shape = Shape::of(header);
    synthesise(model, shape, latents, synthesis, {0, header.height}, pixels);
    if (weights.empty()) return;
    const size_t colours = shape.colours();
    post_filter({pixels, static_cast<ptrdiff_t>(header.width * colours), header.height, header.width, colours}, weights,
                model.threads());
}

}  // namespace basic::codec
