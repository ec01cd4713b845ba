// basic-decode: .basic files to pictures, without Python.
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "basic_codec.h"
#include "errors.hpp"
#include "picture_file.hpp"

namespace {

using basic::codec::Error;

constexpr const char* kUsage =
    "Usage: basic-decode [OPTIONS] MODEL FILE OUTPUT\n"
    "       basic-decode --info FILE\n"
    "\n"
    "  Decode FILE, a .basic file, with MODEL, a file that basic-run pack made, and\n"
    "  write OUTPUT: .png, .ppm, .pgm or .pam. FILE may be - for standard input, and\n"
    "  OUTPUT - for standard output, as PAM.\n"
    "\n"
    "  --level N        0 to 7: how much decoding computes (default: as FILE suggests)\n"
    "  --threads N      threads (default: as many as there are processors)\n"
    "  --max-pixels N   largest picture (default: 128000000)\n"
    "  --overwrite      replace OUTPUT if it is there\n"
    "  --info           tell what FILE is, and decode nothing\n"
    "  --version        print the version\n"
    "  -h, --help       print this\n";

struct Options {
    basic_options decode = {-1, 0, 0};
    unsigned threads = 0;
    bool overwrite = false, info = false;
    std::vector<std::string> names;
};

[[noreturn]] void misused(const std::string& line) {
    std::fprintf(stderr, "basic-decode: error: %s\nTry 'basic-decode --help'\n", line.c_str());
    std::exit(2);
}

unsigned long long number(const std::string& option, const char* text, unsigned long long most) {
    char* end = nullptr;
    errno = 0;
    const unsigned long long value = text == nullptr ? 0 : std::strtoull(text, &end, 10);
    if (text == nullptr || *text < '0' || *text > '9' || *end != '\0' || errno != 0 || value > most)
        misused(option + " needs a whole number of at most " + std::to_string(most));
    return value;
}

Options parsed(int count, char** arguments) {
    Options options;
    for (int k = 1; k < count; ++k) {
        const std::string argument = arguments[k];
        const char* const next = k + 1 < count ? arguments[k + 1] : nullptr;
        if (argument == "--level")
            options.decode.level = static_cast<int>(number(argument, next, 7)), ++k;
        else if (argument == "--threads")
            options.threads = static_cast<unsigned>(number(argument, next, 64)), ++k;
        else if (argument == "--max-pixels")
            options.decode.max_pixels = number(argument, next, 1ULL << 32), ++k;
        else if (argument == "--overwrite")
            options.overwrite = true;
        else if (argument == "--info")
            options.info = true;
        else if (argument == "-h" || argument == "--help")
            std::fputs(kUsage, stdout), std::exit(0);
        else if (argument == "--version")
            std::puts("basic-decode " BASIC_VERSION), std::exit(0);
        else if (argument.size() > 1 && argument[0] == '-')
            misused("no such option: " + argument);
        else
            options.names.push_back(argument);
    }
    if (options.names.size() != (options.info ? 1U : 3U)) misused(options.info ? "--info needs a FILE" : "MODEL, FILE and OUTPUT are needed");
    return options;
}

std::vector<unsigned char> read_file(const std::string& path) {
    const bool stream = path == "-";
    std::unique_ptr<FILE, int (*)(FILE*)> file(stream ? stdin : std::fopen(path.c_str(), "rb"), stream ? std::fflush : std::fclose);
    std::vector<unsigned char> bytes;
    if (file) {
        errno = 0;
        for (size_t chunk = 1 << 16, got = 1; got > 0; chunk = bytes.size()) {
            const size_t known = bytes.size();
            bytes.resize(known + chunk);
            got = std::fread(bytes.data() + known, 1, chunk, file.get());
            bytes.resize(known + got);
        }
    }
    if (!file || std::ferror(file.get()))
        throw Error(BASIC_BAD_ARGUMENT, (stream ? "standard input" : path) + ": cannot be read (" + std::strerror(errno) + "): check the path");
    return bytes;
}

void require(basic_status status, const std::string& path, const char* error) {
    if (status != BASIC_OK) throw Error(status, (path == "-" ? "standard input" : path) + ": " + error);
}

void tell(const Options& options) {
    char error[BASIC_ERROR_SIZE];
    const auto file = read_file(options.names[0]);
    basic_info info;
    require(basic_read_info(file.data(), file.size(), &info, error), options.names[0], error);
    std::printf("%s: %ux%u %s%s, level %d, decoded at %d, quality step %d, model %s (%s)\n", options.names[0].c_str(), info.width, info.height,
                info.gray ? "gray" : "RGB", info.alpha ? " with alpha" : "", info.level, info.decode_level, info.quality_step, info.model_name,
                info.model_id);
}

void decode(const Options& options) {
    char error[BASIC_ERROR_SIZE];
    basic::codec::check_output(options.names[2], options.overwrite);
    const auto file = read_file(options.names[1]);
    const auto bytes = read_file(options.names[0]);
    basic_model* opened = nullptr;
    require(basic_model_open(bytes.data(), bytes.size(), options.threads, &opened, error), options.names[0], error);
    const std::unique_ptr<basic_model, void (*)(basic_model*)> model(opened, basic_model_free);
    basic_picture picture;
    require(basic_decode(model.get(), file.data(), file.size(), &options.decode, &picture, error), options.names[1], error);
    const std::unique_ptr<basic_picture, void (*)(basic_picture*)> kept(&picture, basic_picture_free);
    basic::codec::write_picture(options.names[2], picture, options.overwrite);
}

}  // namespace

int main(int count, char** arguments) {
    const Options options = parsed(count, arguments);
    try {
        options.info ? tell(options) : decode(options);
        return 0;
    } catch (const std::bad_alloc&) {
        std::fputs("basic-decode: error: not enough memory for this picture: try a smaller one\n", stderr);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "basic-decode: error: %s\n", error.what());
    }
    return 1;
}
