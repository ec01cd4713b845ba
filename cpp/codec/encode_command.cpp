// basic-encode: pictures to .basic files, without Python.
#include <memory>
#include <string>
#include <vector>

#include "basic_codec.h"
#include "command_line.hpp"
#include "errors.hpp"
#include "file_list.hpp"
#include "output_file.hpp"
#include "picture_input.hpp"

namespace {

using namespace basic::codec;

const Program kProgram = {"basic-encode",
                          "Usage: basic-encode [OPTIONS] MODEL PICTURE [[-o] OUTPUT]\n"
                          "       basic-encode [OPTIONS] MODEL PICTURE... --out-dir FOLDER\n"
                          "\n"
                          "  Encode PICTURE with MODEL, a file that basic-run pack --encoders made, and write\n"
                          "  OUTPUT, a .basic file, beside it unless named. PICTURE is a .png, .jpg, .ppm,\n"
                          "  .pgm or .pam, - for standard input, or with --out-dir a folder of such files;\n"
                          "  OUTPUT may be - for standard output.\n"
                          "\n"
                          "  -o, --output OUTPUT\n"
                          "  --out-dir FOLDER where files go, by their pictures' names\n"
                          "  -q, --quality N  1 to 100 (default: 50)\n"
                          "  --level N        0 to 7 (default: the highest in MODEL)\n"
                          "  --effort N       0 is fastest; 1, the default, fits a filter to the picture\n"
                          "  --threads N      1 to 64 threads (default: as many as there are processors)\n"
                          "  --max-pixels N   largest picture (default: 128000000)\n"
                          "  --overwrite      replace files that are there\n"
                          "  --version        print the version\n"
                          "  -h, --help       print this\n"};

struct Options {
    basic_encode_options encode = {50, -1, 1, 0};
    bool overwrite = false;
    FileArguments files;
};

Options options_of(int count, char** arguments) {
    Options options;
    basic_encode_options& encode = options.encode;
    const auto set_output = [&](const std::string& name) { options.files.output = name; };
    const auto set_quality = [&](auto n) { encode.quality = static_cast<int>(n); };
    options.files.names =
        parsed(kProgram,
               {{"-q", nullptr, 1, 100, set_quality},
                {"--quality", nullptr, 1, 100, set_quality},
                {"--level", nullptr, 0, 7, [&](auto n) { encode.level = static_cast<int>(n); }},
                {"--effort", nullptr, 0, 1, [&](auto n) { encode.effort = static_cast<int>(n); }},
                {"--threads", nullptr, 1, 64, [&](auto n) { options.files.threads = static_cast<unsigned>(n); }},
                {"--max-pixels", nullptr, 1, 1ULL << 32, [&](auto n) { encode.max_pixels = n; }},
                {"-o", nullptr, 0, 0, {}, set_output},
                {"--output", nullptr, 0, 0, {}, set_output},
                {"--out-dir", nullptr, 0, 0, {}, [&](const std::string& name) { options.files.folder = name; }},
                {"--overwrite", &options.overwrite}},
               count, arguments);
    options.files.check(kProgram, "MODEL and PICTURE are needed, and for several --out-dir");
    return options;
}

InputPicture picture_of(const std::string& path, uint64_t max_pixels) {
    auto bytes = read_file(path);
    try {
        return read_picture(std::move(bytes), max_pixels);
    } catch (const Error& error) {
        throw Error(error.status, shown(path) + ": " + error.what());
    }
}

// Of two pictures by name the second would be an output, which --overwrite may replace.
void check_no_picture(const std::string& path) {
    if (ends_in(path, picture_endings()))
        throw Error(BASIC_BAD_ARGUMENT, path + ": is the name of a picture: name a .basic file, or for several --out-dir");
}

void encode(const Options& options, const basic_model* model, const Job& job) {
    check_no_picture(job.output);
    check_free(job.output, options.overwrite);
    const InputPicture input = picture_of(job.input, options.encode.max_pixels);
    const basic_picture picture = input.view();
    char error[BASIC_ERROR_SIZE];
    uint8_t* file = nullptr;
    size_t size = 0;
    require_ok(basic_encode(model, &picture, &options.encode, &file, &size, error), job.input, error);
    const std::unique_ptr<uint8_t, void (*)(void*)> kept(file, basic_free);
    OutputFile out(job.output, options.overwrite);
    out.put({file, size});
    out.finish();
    for (const std::string& notice : input.notices) note(kProgram, job.input, notice);
}

}  // namespace

int main(int count, char** arguments) {
    const Options options = options_of(count, arguments);
    return exit_status(kProgram, options.files, picture_endings(), ".basic",
                       [&](const basic_model* model, const Job& job) { encode(options, model, job); });
}
