// The C functions of basic_codec.h, on a packed model, that encodes at levels 0 and 7 alone, and files of it:
// codec_test MODEL FILE...
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#if defined(__unix__)
#include <sys/wait.h>
#include <unistd.h>
#endif

#include "basic_codec.h"
#include "check.hpp"
#include "failing_memory.hpp"

namespace {

using Data = std::vector<char>;

struct Picture : basic_picture {
    Picture() : basic_picture{} {}
    Picture(const Picture&) = delete;
    ~Picture() { basic_picture_free(this); }
    std::string bytes() const { return {pixels, pixels + size_t{width} * height * channels}; }
};

Data read_file(const char* path) {
    std::ifstream file(path, std::ios::binary);
    CHECK(file);
    return {std::istreambuf_iterator<char>(file), {}};
}

basic_model* opened(const Data& bytes, unsigned threads) {
    basic_model* model = nullptr;
    char error[BASIC_ERROR_SIZE];
    const basic_status status = basic_model_open(bytes.data(), bytes.size(), threads, &model, error);
    if (status != BASIC_OK) std::fprintf(stderr, "%s\n", error);
    CHECK(status == BASIC_OK && error[0] == '\0');
    return model;
}

void decode(const basic_model* model, const Data& file, const basic_options* options, Picture& picture) {
    char error[BASIC_ERROR_SIZE];
    const basic_status status = basic_decode(model, file.data(), file.size(), options, &picture, error);
    if (status != BASIC_OK) std::fprintf(stderr, "%s\n", error);
    CHECK(status == BASIC_OK);
}

void arguments_are_checked(const basic_model* model, const Data& bytes, const Data& file) {
    basic_model* other = nullptr;
    Picture picture;
    char error[BASIC_ERROR_SIZE];
    CHECK(basic_model_open(bytes.data(), bytes.size(), 1, nullptr, error) == BASIC_BAD_ARGUMENT && error[0] != '\0');
    CHECK(basic_model_open(nullptr, 5, 1, &other, nullptr) == BASIC_BAD_ARGUMENT && other == nullptr);
    CHECK(basic_model_open(nullptr, 0, 1, &other, nullptr) == BASIC_DAMAGED && other == nullptr);
    CHECK(basic_decode(nullptr, file.data(), file.size(), nullptr, &picture, error) == BASIC_BAD_ARGUMENT);
    CHECK(basic_decode(model, file.data(), file.size(), nullptr, nullptr, error) == BASIC_BAD_ARGUMENT);
    CHECK(basic_decode(model, nullptr, 3, nullptr, &picture, error) == BASIC_BAD_ARGUMENT);
    CHECK(basic_read_info(file.data(), file.size(), nullptr, error) == BASIC_BAD_ARGUMENT);
    for (const basic_options wrong : {basic_options{8, 0, 0}, basic_options{-2, 0, 0}, basic_options{-1, 1, 0}})
        CHECK(basic_decode(model, file.data(), file.size(), &wrong, &picture, error) == BASIC_BAD_ARGUMENT);
    const basic_options small = {-1, 0, 10};
    CHECK(basic_decode(model, file.data(), file.size(), &small, &picture, error) == BASIC_TOO_LARGE);
    CHECK(picture.pixels == nullptr && picture.width == 0);
    basic_model_free(nullptr);
    basic_picture_free(nullptr);
}

void channels_are_as_wanted(const basic_model* model, const Data& file) {
    basic_info info;
    CHECK(basic_read_info(file.data(), file.size(), &info, nullptr) == BASIC_OK);
    CHECK(std::strlen(info.model_id) == 8 && info.model_name[0] != '\0');
    Picture own, rgb, rgba;
    decode(model, file, nullptr, own);
    CHECK(own.width == info.width && own.height == info.height);
    CHECK(own.channels == (info.gray ? 1U : 3U) + (info.alpha ? 1U : 0U));
    const basic_options three = {-1, 3, 0}, four = {-1, 4, 0};
    decode(model, file, &three, rgb);
    decode(model, file, &four, rgba);
    CHECK(rgb.channels == 3 && rgba.channels == 4);
    for (size_t k = 0; k < size_t{own.width} * own.height; ++k) {
        const uint8_t* const from = own.pixels + k * own.channels;
        for (size_t c = 0; c < 3; ++c) {
            CHECK(rgb.pixels[3 * k + c] == from[info.gray ? 0 : c]);
            CHECK(rgba.pixels[4 * k + c] == rgb.pixels[3 * k + c]);
        }
        CHECK(rgba.pixels[4 * k + 3] == (info.alpha ? from[own.channels - 1] : 255));
    }
}

Data encoded(const basic_model* model, const Picture& picture, int level, int effort) {
    char error[BASIC_ERROR_SIZE];
    uint8_t* bytes = nullptr;
    size_t size = 0;
    const basic_encode_options options = {60, level, effort, 0};
    const basic_status status = basic_encode(model, &picture, &options, &bytes, &size, error);
    if (status != BASIC_OK) std::fprintf(stderr, "%s\n", error);
    CHECK(status == BASIC_OK && bytes != nullptr);
    const Data file(bytes, bytes + size);
    basic_free(bytes);
    return file;
}

// Of whatever was decoded, files of any number of threads are the same, and keep alpha and metadata.
void encodes_what_it_decodes(const basic_model* alone, const basic_model* model, const Data& file) {
    const basic_options four = {-1, 4, 0};
    Picture picture;
    decode(model, file, &four, picture);
    picture.xmp = static_cast<uint8_t*>(std::malloc(300));
    std::memset(picture.xmp, 'x', picture.xmp_size = 300);
    for (size_t k = 0; k < size_t{picture.width} * picture.height; ++k)
        picture.pixels[4 * k + 3] = static_cast<uint8_t>(k % 251);
    for (const int level : {0, 7})
        for (const int effort : {0, 1}) {
            const Data again = encoded(model, picture, level, effort);
            CHECK(again == encoded(alone, picture, level, effort));
            Picture back;
            decode(model, again, nullptr, back);
            CHECK(back.channels == 4 && back.xmp_size == 300 && back.xmp[299] == 'x');
            for (size_t k = 0; k < size_t{back.width} * back.height; ++k) CHECK(back.pixels[4 * k + 3] == k % 251);
        }
}

void encoding_checks_its_arguments(const basic_model* model) {
    uint8_t pixels[12] = {};
    Picture picture;
    uint8_t* bytes = nullptr;
    size_t size = 0;
    char error[BASIC_ERROR_SIZE];
    CHECK(basic_encode(model, &picture, nullptr, &bytes, &size, error) == BASIC_BAD_ARGUMENT);
    basic_picture good = {2, 2, 3, pixels, nullptr, nullptr, nullptr, 0, 0, 0};
    CHECK(basic_encode(nullptr, &good, nullptr, &bytes, &size, error) == BASIC_BAD_ARGUMENT);
    CHECK(basic_encode(model, nullptr, nullptr, &bytes, &size, error) == BASIC_BAD_ARGUMENT);
    CHECK(basic_encode(model, &good, nullptr, nullptr, &size, error) == BASIC_BAD_ARGUMENT);
    for (const basic_encode_options wrong : {basic_encode_options{0, -1, 1, 0}, basic_encode_options{101, -1, 1, 0},
                                             basic_encode_options{50, 8, 1, 0}, basic_encode_options{50, -1, 2, 0}})
        CHECK(basic_encode(model, &good, &wrong, &bytes, &size, error) == BASIC_BAD_ARGUMENT && bytes == nullptr);
    const basic_encode_options small = {50, -1, 1, 3}, other = {50, 3, 1, 0};
    CHECK(basic_encode(model, &good, &small, &bytes, &size, error) == BASIC_TOO_LARGE);
    CHECK(basic_encode(model, &good, &other, &bytes, &size, error) == BASIC_WRONG_MODEL && bytes == nullptr);
    CHECK(basic_encode(model, &good, nullptr, &bytes, &size, error) == BASIC_OK && size > 0);
    basic_free(bytes);
    basic_free(nullptr);
}

// One model, several threads, files in turn: each gets its own picture.
void threads_share_a_model(const basic_model* model, const std::vector<Data>& files,
                           const std::vector<std::string>& expected) {
    std::vector<std::thread> threads;
    for (size_t first = 0; first < 3; ++first)
        threads.emplace_back([&, first] {
            for (size_t k = 0; k < files.size(); ++k) {
                const size_t file = (first + k) % files.size();
                Picture picture;
                decode(model, files[file], nullptr, picture);
                CHECK(picture.bytes() == expected[file]);
            }
        });
    for (std::thread& thread : threads) thread.join();
}

// Whatever the bytes are, there is a picture or an error.
void damage_is_an_error(const basic_model* model, const Data& file) {
    char error[BASIC_ERROR_SIZE];
    for (size_t size = 0; size < file.size(); size += 1 + file.size() / 97) {
        Picture picture;
        const Data cut(file.begin(), file.begin() + static_cast<long>(size));  // so that sanitizers see reads beyond
        CHECK(basic_decode(model, cut.data(), size, nullptr, &picture, error) == BASIC_DAMAGED &&
              picture.pixels == nullptr);
        CHECK(error[0] != '\0' && std::strchr(error, '\n') == nullptr);
    }
    for (size_t place = 0; place < file.size(); place += 1 + file.size() / 197) {
        Data damaged = file;
        damaged[place] = static_cast<char>(damaged[place] ^ 0x41);
        Picture picture;
        CHECK(basic_decode(model, damaged.data(), damaged.size(), nullptr, &picture, error) != BASIC_OK);
    }
}

// Wherever memory ends for good, be it before there is an error's line: a status, and no exception.
void memory_may_end(const Data& bytes, const Data& file) {
    char error[BASIC_ERROR_SIZE];
    basic_status status = BASIC_NO_MEMORY;
    for (long given = 0; status != BASIC_OK; given += 1 + given / 16) {
        basic_model* model = nullptr;
        Picture picture;
        allocations_left = given;
        status = basic_model_open(bytes.data(), bytes.size(), 1, &model, error);
        if (status == BASIC_OK) status = basic_decode(model, file.data(), file.size(), nullptr, &picture, error);
        allocations_left = -1;
        basic_model_free(model);
        CHECK(status == BASIC_OK || (status == BASIC_NO_MEMORY && std::strstr(error, "not enough memory") != nullptr));
    }
    allocations_left = 0;
    basic_info info;
    status = basic_read_info("no file", 7, &info, error);
    allocations_left = -1;
    CHECK(status == BASIC_NO_MEMORY);
}

// Not with sanitizers, which have locks of their own that a fork leaves closed.
#if defined(__unix__) && !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
#define BASIC_FORKS
#endif

#ifdef BASIC_FORKS
// A process that is forked while another thread makes networks has these for itself.
void forked_processes_decode(const basic_model* model, const Data& file) {
    Picture picture;
    decode(model, file, nullptr, picture);
    std::atomic<bool> over = false;
    std::thread other([&] {
        for (int quality = 1; !over; quality = quality % 100 + 1) {
            uint8_t* bytes = nullptr;
            size_t size = 0;
            const basic_encode_options options = {quality, 0, 0, 0};
            CHECK(basic_encode(model, &picture, &options, &bytes, &size, nullptr) == BASIC_OK);
            basic_free(bytes);
        }
    });
    for (int k = 0; k < 20; ++k) {
        usleep(3000 + 1700 * static_cast<unsigned>(k));
        const pid_t child = fork();
        if (child == 0) {
            alarm(60);
            Picture own;
            _exit(basic_decode(model, file.data(), file.size(), nullptr, &own, nullptr));
        }
        int status = 1;
        CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
    }
    over = true;
    other.join();
}
#endif

}  // namespace

int main(int count, char** arguments) {
    if (count < 3) {
        std::fputs("codec_test MODEL FILE...\n", stderr);
        return 2;
    }
    const Data bytes = read_file(arguments[1]);
    std::vector<Data> files;
    for (int k = 2; k < count; ++k) files.push_back(read_file(arguments[k]));
    const std::unique_ptr<basic_model, void (*)(basic_model*)> alone(opened(bytes, 1), basic_model_free),
        model(opened(bytes, 0), basic_model_free);
    arguments_are_checked(model.get(), bytes, files[0]);
    std::vector<std::string> expected;
    for (const Data& file : files) {
        channels_are_as_wanted(model.get(), file);
        Picture picture;
        decode(alone.get(), file, nullptr, picture);
        expected.push_back(picture.bytes());
    }
    encodes_what_it_decodes(alone.get(), model.get(), files[0]);
    encoding_checks_its_arguments(model.get());
    threads_share_a_model(model.get(), files, expected);
    damage_is_an_error(alone.get(), files[0]);
    memory_may_end(bytes, files[0]);
#ifdef BASIC_FORKS
    forked_processes_decode(alone.get(), files[0]);
    forked_processes_decode(model.get(), files[0]);
#endif
    std::puts("codec: all tests passed");
    return 0;
}
