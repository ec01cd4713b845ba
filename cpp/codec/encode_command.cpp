// basic-encode: pictures to .basic files, without Python.
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "basic_codec.h"
#include "command_line.hpp"
#include "errors.hpp"
#include "output_file.hpp"

namespace {

using namespace basic::codec;

const Program kProgram = {"basic-encode",
                          "Usage: basic-encode [OPTIONS] MODEL PICTURE OUTPUT\n"
                          "\n"
                          "  Encode PICTURE, a .ppm, .pgm or .pam of 8 bits, with MODEL, a file that\n"
                          "  basic-run pack --encoders made, and write OUTPUT, a .basic file. PICTURE may be\n"
                          "  - for standard input, and OUTPUT - for standard output.\n"
                          "\n"
                          "  -q, --quality N  1 to 100 (default: 50)\n"
                          "  --level N        0 to 7 (default: the highest in MODEL)\n"
                          "  --effort N       0 is fastest; 1, the default, fits a filter to the picture\n"
                          "  --threads N      threads (default: as many as there are processors)\n"
                          "  --max-pixels N   largest picture (default: 128000000)\n"
                          "  --overwrite      replace OUTPUT if it is there\n"
                          "  --version        print the version\n"
                          "  -h, --help       print this\n"};

struct Options {
    basic_encode_options encode = {50, -1, 1, 0};
    unsigned threads = 0;
    bool overwrite = false;
    std::vector<std::string> names;
};

Options options_of(int count, char** arguments) {
    Options options;
    basic_encode_options& encode = options.encode;
    const auto set_quality = [&](auto n) { encode.quality = static_cast<int>(n); };
    options.names = parsed(kProgram,
                           {{"-q", nullptr, 100, set_quality},
                            {"--quality", nullptr, 100, set_quality},
                            {"--level", nullptr, 7, [&](auto n) { encode.level = static_cast<int>(n); }},
                            {"--effort", nullptr, 1, [&](auto n) { encode.effort = static_cast<int>(n); }},
                            {"--threads", nullptr, 64, [&](auto n) { options.threads = static_cast<unsigned>(n); }},
                            {"--max-pixels", nullptr, 1ULL << 32, [&](auto n) { encode.max_pixels = n; }},
                            {"--overwrite", &options.overwrite}},
                           count, arguments);
    if (options.names.size() != 3) misused(kProgram, "MODEL, PICTURE and OUTPUT are needed");
    return options;
}

// A PPM, PGM or PAM in memory.
class PnmReader {
  public:
    explicit PnmReader(const std::vector<uint8_t>& bytes) : bytes_(bytes) {}

    basic_picture read() {
        const std::string magic = token();
        basic_picture picture{};
        if (magic == "P7") {
            std::map<std::string, std::string> fields;
            for (std::string key; (key = token()) != "ENDHDR";) {
                if (key.empty()) throw bad("it ends in its header");
                fields[key] = token();
            }
            picture.width = number(fields["WIDTH"]), picture.height = number(fields["HEIGHT"]),
            picture.channels = number(fields["DEPTH"]);
            if (fields["MAXVAL"] != "255") throw bad("its samples are not of 8 bits");
        } else if (magic == "P5" || magic == "P6") {
            picture.channels = magic == "P5" ? 1 : 3;
            picture.width = number(token()), picture.height = number(token());
            if (token() != "255") throw bad("its samples are not of 8 bits");
        } else {
            throw bad("it begins with none of P5, P6 and P7");
        }
        if (picture.width == 0 || picture.height == 0 || picture.channels < 1 || picture.channels > 4)
            throw bad("its size cannot be");
        ++position_;  // one white space after the header
        if (position_ > bytes_.size() ||
            (bytes_.size() - position_) / picture.channels / picture.width < picture.height)
            throw bad("it has fewer pixels than its header says");
        picture.pixels = const_cast<uint8_t*>(bytes_.data() + position_);  // the library only reads them
        return picture;
    }

  private:
    static Error bad(const std::string& what) {
        return {BASIC_DAMAGED,
                "this is no picture to encode (" + what + "): convert it to .ppm, .pgm or .pam of 8 bits"};
    }

    // What stands between white space, with comments left out.
    std::string token() {
        while (position_ < bytes_.size() && (std::isspace(bytes_[position_]) != 0 || bytes_[position_] == '#'))
            if (bytes_[position_++] == '#')
                while (position_ < bytes_.size() && bytes_[position_] != '\n') ++position_;
        std::string text;
        while (position_ < bytes_.size() && std::isspace(bytes_[position_]) == 0 && text.size() < 32)
            text += static_cast<char>(bytes_[position_++]);
        return text;
    }

    static uint32_t number(const std::string& text) {
        if (text.empty() || text.size() > 9 || text.find_first_not_of("0123456789") != std::string::npos)
            throw bad("a number is missing");
        return static_cast<uint32_t>(std::stoul(text));
    }

    const std::vector<uint8_t>& bytes_;
    size_t position_ = 0;
};

void encode(const Options& options) {
    check_free(options.names[2], options.overwrite);
    const auto bytes = read_file(options.names[1]);
    const std::string name = options.names[1] == "-" ? "standard input" : options.names[1];
    basic_picture picture;
    try {
        picture = PnmReader(bytes).read();
    } catch (const Error& error) {
        throw Error(error.status, name + ": " + error.what());
    }
    const std::unique_ptr<basic_model, void (*)(basic_model*)> model(open_model(options.names[0], options.threads),
                                                                     basic_model_free);
    char error[BASIC_ERROR_SIZE];
    uint8_t* file = nullptr;
    size_t size = 0;
    require_ok(basic_encode(model.get(), &picture, &options.encode, &file, &size, error), options.names[1], error);
    const std::unique_ptr<uint8_t, void (*)(void*)> kept(file, basic_free);
    OutputFile out(options.names[2], options.overwrite);
    out.put({file, size});
    out.finish();
}

}  // namespace

int main(int count, char** arguments) {
    const Options options = options_of(count, arguments);
    return exit_status(kProgram, [&] { encode(options); });
}
