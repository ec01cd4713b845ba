// basic-decode: .basic files to pictures, without Python.
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "basic_codec.h"
#include "command_line.hpp"
#include "container.hpp"
#include "file_list.hpp"
#include "picture_output.hpp"

namespace {

using namespace basic::codec;

const Program kProgram = {"basic-decode",
                          "Usage: basic-decode [OPTIONS] MODEL FILE [[-o] OUTPUT]\n"
                          "       basic-decode [OPTIONS] MODEL FILE... --out-dir FOLDER\n"
                          "       basic-decode --info FILE...\n"
                          "\n"
                          "  Decode FILE with MODEL, a file that basic-run pack made, and write OUTPUT: .png,\n"
                          "  .ppm, .pgm or .pam, or a PNG beside it unless named. FILE is a .basic file, -\n"
                          "  for standard input, or with --out-dir a folder of such files; OUTPUT may be -\n"
                          "  for standard output, as PAM.\n"
                          "\n"
                          "  -o, --output OUTPUT\n"
                          "  --out-dir FOLDER where pictures go, by their files' names\n"
                          "  --format NAME    what they are: png (default), ppm or pam\n"
                          "  --level N        0 to 7: how much decoding computes (default: as FILE suggests)\n"
                          "  --threads N      1 to 64 threads (default: as many as there are processors)\n"
                          "  --max-pixels N   largest picture (default: 128000000)\n"
                          "  --overwrite      replace files that are there\n"
                          "  --info           tell what each FILE is, and decode nothing\n"
                          "  --version        print the version\n"
                          "  -h, --help       print this\n"};

struct Options {
    basic_options decode = {-1, 0, 0};
    bool overwrite = false, info = false;
    std::string format;
    FileArguments files;
};

Options options_of(int count, char** arguments) {
    Options options;
    FileArguments& files = options.files;
    const auto set_output = [&](const std::string& name) { files.output = name; };
    files.names = parsed(kProgram,
                         {{"--level", nullptr, 0, 7, [&](auto level) { options.decode.level = static_cast<int>(level); }},
                          {"--threads", nullptr, 1, 64, [&](auto n) { files.threads = static_cast<unsigned>(n); }},
                          {"--max-pixels", nullptr, 1, 1ULL << 32, [&](auto n) { options.decode.max_pixels = n; }},
                          {"-o", nullptr, 0, 0, {}, set_output},
                          {"--output", nullptr, 0, 0, {}, set_output},
                          {"--out-dir", nullptr, 0, 0, {}, [&](const std::string& name) { files.folder = name; }},
                          {"--format", nullptr, 0, 0, {}, [&](const std::string& name) { options.format = name; }},
                          {"--overwrite", &options.overwrite},
                          {"--info", &options.info}},
                         count, arguments);
    if (options.info && files.names.empty()) misused(kProgram, "--info needs a FILE");
    if (!options.info) files.check(kProgram, "MODEL and FILE are needed, and for several --out-dir");
    if (!options.format.empty() && files.folder.empty()) misused(kProgram, "--format goes with --out-dir");
    if (options.format.empty()) options.format = "png";
    if (options.format != "png" && options.format != "ppm" && options.format != "pam")
        misused(kProgram, "--format is png, ppm or pam");
    return options;
}

void tell(const std::string& name) {
    char error[BASIC_ERROR_SIZE];
    const auto file = read_file(name, kFileSignature);
    basic_info info;
    require_ok(basic_read_info(file.data(), file.size(), &info, error), name, error);
    std::printf("%s: %ux%u %s%s, level %d, decoded at %d, quality step %d, model %s (%s)\n", printable(name).c_str(),
                info.width, info.height, info.gray ? "gray" : "RGB", info.alpha ? " with alpha" : "", info.level, info.decode_level,
                info.quality_step, info.model_name, info.model_id);
}

int tell_all(const std::vector<std::string>& names) {
    int status = 0;
    for (const std::string& name : names) status |= exit_status(kProgram, [&] { tell(name); });
    return status | exit_status(kProgram, check_told);
}

void decode(const Options& options, const basic_model* model, const Job& job) {
    char error[BASIC_ERROR_SIZE];
    check_output(job.output, options.overwrite);
    const auto file = read_file(job.input, kFileSignature);
    basic_picture picture;
    require_ok(basic_decode(model, file.data(), file.size(), &options.decode, &picture, error), job.input, error);
    const std::unique_ptr<basic_picture, void (*)(basic_picture*)> kept(&picture, basic_picture_free);
    write_picture(job.output, picture, options.overwrite, job.threads);
}

}  // namespace

int main(int count, char** arguments) {
    const Options options = options_of(count, arguments);
    if (options.info) return tell_all(options.files.names);
    return exit_status(kProgram, options.files, {".basic"}, "." + options.format,
                       [&](const basic_model* model, const Job& job) { decode(options, model, job); });
}
