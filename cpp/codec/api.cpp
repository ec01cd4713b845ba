// The C functions of basic_codec.h: no exception leaves them.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <thread>

#include "decode.hpp"
#include "encode.hpp"

struct basic_model {
    basic::codec::Model model;
};

namespace {

using namespace basic::codec;

constexpr unsigned kMostThreads = 64;

basic_status failed(basic_status status, const char* line, char* error) {
    if (error != nullptr) {
        std::strncpy(error, line, BASIC_ERROR_SIZE - 1);
        error[BASIC_ERROR_SIZE - 1] = '\0';
    }
    return status;
}

// The same of what is being handled.
basic_status failure_now(char* error) {
    try {
        const Error problem = current_error();
        return failed(problem.status, problem.what(), error);
    } catch (...) {  // not even memory for the line
        return failed(BASIC_NO_MEMORY, kNoMemory, error);
    }
}

// The status of some work, and its error as text.
template <typename Work>
basic_status status_of(char* error, const Work& work) {
    try {
        work();
        return failed(BASIC_OK, "", error);
    } catch (...) {
        return failure_now(error);
    }
}

void require(bool holds, const char* line) {
    if (!holds) throw Error(BASIC_BAD_ARGUMENT, line);
}

Bytes bytes_of(const void* data, size_t size) {
    require(data != nullptr || size == 0, "no bytes were given");
    return {static_cast<const uint8_t*>(data), size};
}

// Memory that basic_picture_free frees.
uint8_t* allocated(size_t size) {
    auto* data = static_cast<uint8_t*>(std::malloc(std::max<size_t>(size, 1)));
    if (data == nullptr) throw std::bad_alloc();
    return data;
}

void put_metadata(const Container& file, const char* type, uint8_t*& data, size_t& size) {
    const auto chunk = file.chunk(type);
    if (!chunk) return;
    const auto found = unpack_metadata(*chunk, type);
    data = allocated(found.size());
    size = found.size();
    std::copy(found.begin(), found.end(), data);
}

// Colours and alpha side by side.
void put_together(const std::vector<uint8_t>& pixels, size_t colours, const std::vector<uint8_t>& alpha,
                  basic_picture& picture) {
    const size_t count = size_t{picture.width} * picture.height, shown = picture.channels < 3 ? 1 : 3;
    uint8_t* to = picture.pixels;
    for (size_t k = 0; k < count; ++k) {
        for (size_t c = 0; c < shown; ++c) *to++ = pixels[k * colours + std::min(c, colours - 1)];
        if (shown < picture.channels) *to++ = alpha.empty() ? 255 : alpha[k];
    }
}

void put_pixels(const Model& model, const Container& file, const basic_options& wanted, basic_picture& picture) {
    const auto chunk = file.chunk("ALPH");
    const auto alpha = chunk ? unpack_alpha(*chunk, picture.width, picture.height) : std::vector<uint8_t>();
    const size_t colours = file.header.gray ? 1 : 3, count = size_t{picture.width} * picture.height;
    const size_t own = colours + (alpha.empty() ? 0 : 1),
                 channels = wanted.channels == 0 ? own : static_cast<size_t>(wanted.channels);
    picture.channels = static_cast<uint32_t>(channels);
    picture.pixels = allocated(count * channels);
    if (channels == colours) {
        decode_pixels(model, file, wanted.level, picture.pixels);
        return;
    }
    std::vector<uint8_t> pixels(count * colours);
    decode_pixels(model, file, wanted.level, pixels.data());
    put_together(pixels, colours, alpha, picture);
}

Chunks metadata_of(const basic_picture& picture) {
    Chunks chunks;
    const auto add = [&](const char* type, const uint8_t* data, size_t size) {
        if (data != nullptr && size > 0) chunks.emplace_back(type, pack_metadata({data, size}));
    };
    add("iccp", picture.icc, picture.icc_size);
    add("exif", picture.exif, picture.exif_size);
    add("xmpd", picture.xmp, picture.xmp_size);
    return chunks;
}

std::vector<uint8_t> encoded(const Model& model, const basic_picture& picture, const EncodeSettings& settings) {
    const size_t channels = picture.channels, colours = channels < 3 ? 1 : 3,
                 count = size_t{picture.width} * picture.height;
    Chunks chunks = metadata_of(picture);
    basic::ConstPicture pixels{picture.pixels, static_cast<ptrdiff_t>(picture.width * colours), picture.height,
                               picture.width, colours};
    std::vector<uint8_t> apart;
    if (colours != channels) {
        apart.resize(count * colours);
        std::vector<uint8_t> alpha(count);
        for (size_t k = 0; k < count; ++k) {
            std::copy_n(picture.pixels + k * channels, colours, apart.data() + k * colours);
            alpha[k] = picture.pixels[k * channels + colours];
        }
        chunks.emplace_back("ALPH", pack_alpha(alpha, picture.width, picture.height));
        pixels.pixels = apart.data();
    }
    return encode(model, pixels, settings, std::move(chunks));
}

}  // namespace

basic_status basic_model_open(const void* bytes, size_t size, unsigned threads, basic_model** model, char* error) {
    return status_of(error, [&] {
        require(model != nullptr, "there is no place for the model");
        *model = nullptr;
        if (threads == 0) threads = std::max(1u, std::thread::hardware_concurrency());
        *model = new basic_model{Model(bytes_of(bytes, size), std::min(threads, kMostThreads))};
    });
}

void basic_model_free(basic_model* model) { delete model; }

basic_status basic_read_info(const void* file, size_t size, basic_info* info, char* error) {
    return status_of(error, [&] {
        require(info != nullptr, "there is no place for what the file is");
        const Container found = read_container(bytes_of(file, size), UINT64_MAX);
        const Header& header = found.header;
        *info = {header.width,
                 header.height,
                 header.gray,
                 found.chunk("ALPH").has_value(),
                 header.level,
                 header.decode_level,
                 header.quality_step,
                 {},
                 {}};
        header.model_name.copy(info->model_name, sizeof info->model_name - 1);
        hex(header.model_id).copy(info->model_id, sizeof info->model_id - 1);
    });
}

basic_status basic_decode(const basic_model* model, const void* file, size_t size, const basic_options* options,
                          basic_picture* picture, char* error) {
    if (picture != nullptr) *picture = {};
    const basic_status status = status_of(error, [&] {
        require(model != nullptr && picture != nullptr, "there is no model, or no place for the picture");
        const basic_options wanted = options == nullptr ? basic_options{-1, 0, 0} : *options;
        require(wanted.level >= -1 && wanted.level <= 7, "the level must be 0 to 7, or -1");
        require(wanted.channels == 0 || wanted.channels == 3 || wanted.channels == 4, "channels must be 0, 3 or 4");
        const Container found =
            read_container(bytes_of(file, size), wanted.max_pixels == 0 ? kMaxPixels : wanted.max_pixels);
        const Header& header = found.header;
        picture->width = header.width;
        picture->height = header.height;
        put_metadata(found, "iccp", picture->icc, picture->icc_size);
        put_metadata(found, "exif", picture->exif, picture->exif_size);
        put_metadata(found, "xmpd", picture->xmp, picture->xmp_size);
        put_pixels(model->model, found, wanted, *picture);
    });
    if (status != BASIC_OK) basic_picture_free(picture);
    return status;
}

basic_status basic_encode(const basic_model* model, const basic_picture* picture, const basic_encode_options* options,
                          uint8_t** file, size_t* size, char* error) {
    if (file != nullptr) *file = nullptr;
    return status_of(error, [&] {
        require(model != nullptr && file != nullptr && size != nullptr, "there is no model, or no place for the file");
        require(picture != nullptr && picture->pixels != nullptr, "there is no picture");
        require(picture->channels >= 1 && picture->channels <= 4, "a picture has 1 to 4 channels");
        require(picture->width > 0 && picture->height > 0, "a picture has at least one pixel");
        const basic_encode_options wanted = options == nullptr ? basic_encode_options{50, -1, 1, 0} : *options;
        require(wanted.quality >= 1 && wanted.quality <= 100, "the quality must be 1 to 100");
        require(wanted.level >= -1 && wanted.level <= 7, "the level must be 0 to 7, or -1");
        require(wanted.effort == 0 || wanted.effort == 1, "the effort must be 0 or 1");
        check_size(picture->width, picture->height, wanted.max_pixels == 0 ? kMaxPixels : wanted.max_pixels);
        const auto step = static_cast<int>(std::nearbyint((wanted.quality - 1) * 63 / 99.0));
        const std::vector<uint8_t> bytes = encoded(model->model, *picture, {step, wanted.level, wanted.effort});
        *file = allocated(bytes.size());
        *size = bytes.size();
        std::copy(bytes.begin(), bytes.end(), *file);
    });
}

void basic_free(void* memory) { std::free(memory); }

void basic_picture_free(basic_picture* picture) {
    if (picture == nullptr) return;
    for (uint8_t* data : {picture->pixels, picture->icc, picture->exif, picture->xmp}) std::free(data);
    *picture = {};
}
