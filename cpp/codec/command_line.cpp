#include "command_line.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "errors.hpp"

namespace basic::codec {
namespace {

std::string shown(const std::string& path) { return path == "-" ? "standard input" : path; }

unsigned long long number_of(const Program& program, const Option& option, const char* text) {
    char* end = nullptr;
    errno = 0;
    const unsigned long long value = text == nullptr ? 0 : std::strtoull(text, &end, 10);
    if (text == nullptr || *text < '0' || *text > '9' || *end != '\0' || errno != 0 || value > option.most)
        misused(program, std::string(option.name) + " needs a whole number of at most " + std::to_string(option.most));
    return value;
}

}  // namespace

std::vector<std::string> parsed(const Program& program, const std::vector<Option>& options, int count,
                                char** arguments) {
    std::vector<std::string> names;
    for (int k = 1; k < count; ++k) {
        const std::string argument = arguments[k];
        const auto option =
            std::find_if(options.begin(), options.end(), [&](const Option& known) { return argument == known.name; });
        if (option != options.end() && option->flag != nullptr) {
            *option->flag = true;
        } else if (option != options.end()) {
            ++k;
            option->take(number_of(program, *option, k < count ? arguments[k] : nullptr));
        } else if (argument == "-h" || argument == "--help") {
            std::fputs(program.usage, stdout);
            std::exit(0);
        } else if (argument == "--version") {
            std::printf("%s " BASIC_VERSION "\n", program.name);
            std::exit(0);
        } else if (argument.size() > 1 && argument[0] == '-') {
            misused(program, "no such option: " + argument);
        } else {
            names.push_back(argument);
        }
    }
    return names;
}

void misused(const Program& program, const std::string& line) {
    std::fprintf(stderr, "%s: error: %s\nTry '%s --help'\n", program.name, line.c_str(), program.name);
    std::exit(2);
}

std::vector<uint8_t> read_file(const std::string& path) {
    const bool stream = path == "-";
    std::unique_ptr<FILE, int (*)(FILE*)> file(stream ? stdin : std::fopen(path.c_str(), "rb"),
                                               stream ? std::fflush : std::fclose);
    std::vector<uint8_t> bytes;
    if (file) {
        errno = 0;
        struct stat status {};
        const bool known_size = fstat(fileno(file.get()), &status) == 0 && S_ISREG(status.st_mode);
        for (size_t chunk = known_size ? static_cast<size_t>(status.st_size) + 1 : 1 << 16, got = 1; got > 0;
             chunk = 1 + bytes.size() / 4) {
            const size_t known = bytes.size();
            bytes.resize(known + chunk);
            got = std::fread(bytes.data() + known, 1, chunk, file.get());
            bytes.resize(known + got);
        }
    }
    if (!file || std::ferror(file.get()))
        throw Error(BASIC_BAD_ARGUMENT,
                    shown(path) + ": cannot be read (" + std::strerror(errno) + "): check the path");
    return bytes;
}

basic_model* open_model(const std::string& path, unsigned threads) {
    const std::vector<uint8_t> bytes = read_file(path);
    char error[BASIC_ERROR_SIZE];
    basic_model* model = nullptr;
    require_ok(basic_model_open(bytes.data(), bytes.size(), threads, &model, error), path, error);
    return model;
}

void require_ok(basic_status status, const std::string& path, const char* error) {
    if (status != BASIC_OK) throw Error(status, shown(path) + ": " + error);
}

int exit_status(const Program& program, const std::function<void()>& work) {
    try {
        work();
        return 0;
    } catch (...) {
        std::fprintf(stderr, "%s: error: %s\n", program.name, current_error().what());
    }
    return 1;
}

}  // namespace basic::codec
