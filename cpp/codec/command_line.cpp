#include "command_line.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <system_error>

#include "errors.hpp"
#include "system.hpp"

namespace basic::codec {
namespace {

unsigned long long number_of(const Program& program, const Option& option, const std::string& text) {
    char* end = nullptr;
    errno = 0;
    const unsigned long long value = std::strtoull(text.c_str(), &end, 10);
    if (text.empty() || text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value > option.most)
        misused(program, std::string(option.name) + " needs a whole number of at most " + std::to_string(option.most));
    return value;
}

}  // namespace

std::vector<std::string> parsed(const Program& program, const std::vector<Option>& options, int count,
                                char** arguments) {
    const std::vector<std::string> given = arguments_of(count, arguments);
    std::vector<std::string> names;
    for (size_t k = 1; k < given.size(); ++k) {
        const std::string& argument = given[k];
        const auto option =
            std::find_if(options.begin(), options.end(), [&](const Option& known) { return argument == known.name; });
        if (option != options.end() && option->flag != nullptr) {
            *option->flag = true;
        } else if (option != options.end()) {
            if (++k == given.size()) misused(program, argument + " needs something behind it");
            if (option->text)
                option->text(given[k]);
            else
                option->number(number_of(program, *option, given[k]));
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
    std::unique_ptr<FILE, int (*)(FILE*)> file(stream ? standard_input() : open_file(path),
                                               stream ? std::fflush : std::fclose);
    std::vector<uint8_t> bytes;
    if (file) {
        errno = 0;
        std::error_code unknown;
        const auto size = stream ? 0 : file_size(path_of(path), unknown);
        for (size_t chunk = unknown || size == 0 ? 1 << 16 : static_cast<size_t>(size) + 1, got = 1; got > 0;
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

std::string shown(const std::string& path) { return path == "-" ? "standard input" : path; }

void note(const Program& program, const std::string& path, const std::string& line) {
    std::fprintf(stderr, "%s: note: %s: %s\n", program.name, shown(path).c_str(), line.c_str());
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
