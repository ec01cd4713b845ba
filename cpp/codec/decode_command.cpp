// basic-decode: .basic files to pictures, without Python.
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "basic_codec.h"
#include "command_line.hpp"
#include "picture_file.hpp"

namespace {

using namespace basic::codec;

const Program kProgram = {"basic-decode",
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
                          "  -h, --help       print this\n"};

struct Options {
    basic_options decode = {-1, 0, 0};
    unsigned threads = 0;
    bool overwrite = false, info = false;
    std::vector<std::string> names;
};

Options options_of(int count, char** arguments) {
    Options options;
    options.names =
        parsed(kProgram,
               {{"--level", nullptr, 7, [&](auto level) { options.decode.level = static_cast<int>(level); }},
                {"--threads", nullptr, 64, [&](auto n) { options.threads = static_cast<unsigned>(n); }},
                {"--max-pixels", nullptr, 1ULL << 32, [&](auto n) { options.decode.max_pixels = n; }},
                {"--overwrite", &options.overwrite},
                {"--info", &options.info}},
               count, arguments);
    if (options.names.size() != (options.info ? 1U : 3U))
        misused(kProgram, options.info ? "--info needs a FILE" : "MODEL, FILE and OUTPUT are needed");
    return options;
}

void tell(const Options& options) {
    char error[BASIC_ERROR_SIZE];
    const auto file = read_file(options.names[0]);
    basic_info info;
    require_ok(basic_read_info(file.data(), file.size(), &info, error), options.names[0], error);
    std::printf("%s: %ux%u %s%s, level %d, decoded at %d, quality step %d, model %s (%s)\n", options.names[0].c_str(),
                info.width, info.height, info.gray ? "gray" : "RGB", info.alpha ? " with alpha" : "", info.level,
                info.decode_level, info.quality_step, info.model_name, info.model_id);
}

void decode(const Options& options) {
    char error[BASIC_ERROR_SIZE];
    check_output(options.names[2], options.overwrite);
    const auto file = read_file(options.names[1]);
    const std::unique_ptr<basic_model, void (*)(basic_model*)> model(open_model(options.names[0], options.threads),
                                                                     basic_model_free);
    basic_picture picture;
    require_ok(basic_decode(model.get(), file.data(), file.size(), &options.decode, &picture, error), options.names[1],
               error);
    const std::unique_ptr<basic_picture, void (*)(basic_picture*)> kept(&picture, basic_picture_free);
    write_picture(options.names[2], picture, options.overwrite);
}

}  // namespace

int main(int count, char** arguments) {
    const Options options = options_of(count, arguments);
    return exit_status(kProgram, [&] { options.info ? tell(options) : decode(options); });
}
