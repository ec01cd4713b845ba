#include "command_line.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <system_error>

#include "container.hpp"
#include "errors.hpp"
#include "system.hpp"

namespace basic::codec {
namespace {

unsigned long long number_of(const Program& program, const Option& option, const std::string& text) {
    char* end = nullptr;
    errno = 0;
    const unsigned long long value = std::strtoull(text.c_str(), &end, 10);
    if (text.empty() || text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value < option.least ||
        value > option.most)
        misused(program, std::string(option.name) + " needs a whole number from " + std::to_string(option.least) +
                             " to " + std::to_string(option.most));
    return value;
}

void check_named(const Program& program, const std::string& what, const std::string& name) {
    if (name.empty()) misused(program, what + " has an empty name: is it of a variable that is not set?");
}

// An argument that is an option, and what is written behind it in one with it: --level=3, -q60.
struct Given {
    std::string name, value;
    bool has_value;
};

Given option_of(const std::string& argument) {
    const bool is_long = argument.starts_with("--");
    const size_t end = is_long ? std::min(argument.find('='), argument.size()) : 2;
    if (end >= argument.size()) return {argument, "", false};
    return {argument.substr(0, end), argument.substr(is_long ? end + 1 : end), true};
}

void check_file_size(const std::string& path, uint64_t size) {
    if (size > kMaxFileBytes)
        throw Error(BASIC_TOO_LARGE, shown(path) + ": has more than the 2 GiB that are allowed: check the path");
}

// Prints, and ends the program.
[[noreturn]] void tell(const Program& program, const std::string& text) {
    std::exit(exit_status(program, [&] {
        std::fputs(text.c_str(), stdout);
        check_told();
    }));
}

// A line of what is being handled.
void tell_error(const Program& program) {
    try {
        std::fprintf(stderr, "%s: error: %s\n", program.name, printable(current_error().what()).c_str());
    } catch (...) {  // not even memory for the line
        std::fprintf(stderr, "%s: error: %s\n", program.name, kNoMemory);
    }
}

}  // namespace

std::vector<std::string> parsed(const Program& program, const std::vector<Option>& options, int count,
                                char** arguments) {
    const std::vector<std::string> given = arguments_of(count, arguments);
    std::vector<std::string> names;
    bool only_names = false;
    for (size_t k = 1; k < given.size(); ++k) {
        if (only_names || given[k].size() < 2 || given[k][0] != '-') {
            check_named(program, "a file", given[k]);
            names.push_back(given[k]);
            continue;
        }
        if (given[k] == "--") {
            only_names = true;
            continue;
        }
        const auto [name, value, has_value] = option_of(given[k]);
        if (name == "-h" || name == "--help") tell(program, program.usage);
        if (name == "--version") tell(program, std::string(program.name) + " " BASIC_VERSION "\n");
        const auto option =
            std::find_if(options.begin(), options.end(), [&](const Option& known) { return name == known.name; });
        if (option == options.end()) misused(program, "no such option: " + given[k]);
        if (option->flag != nullptr) {
            if (has_value) misused(program, name + " stands alone");
            *option->flag = true;
            continue;
        }
        if (!has_value && ++k == given.size()) misused(program, name + " needs something behind it");
        const std::string& text = has_value ? value : given[k];
        if (option->text) {
            check_named(program, name, text);
            option->text(text);
        } else {
            option->number(number_of(program, *option, text));
        }
    }
    return names;
}

void misused(const Program& program, const std::string& line) {
    std::fprintf(stderr, "%s: error: %s\nTry '%s --help'\n", program.name, printable(line).c_str(), program.name);
    std::exit(2);
}

std::vector<uint8_t> read_file(const std::string& path, Bytes signature) {
    const bool stream = path == "-";
    std::unique_ptr<FILE, int (*)(FILE*)> file(stream ? standard_input() : open_file(path),
                                               stream ? std::fflush : std::fclose);
    std::vector<uint8_t> bytes;
    if (file) {
        errno = 0;
        std::error_code unknown;
        const auto size = stream ? 0 : file_size(path_of(path), unknown);
        check_file_size(path, unknown ? 0 : size);
        for (size_t chunk = unknown || size == 0 ? 1 << 16 : static_cast<size_t>(size) + 1, got = 1; got > 0;
             chunk = 1 + bytes.size() / 4) {
            const size_t known = bytes.size();
            bytes.resize(known + chunk);
            got = std::fread(bytes.data() + known, 1, chunk, file.get());
            bytes.resize(known + got);
            check_file_size(path, bytes.size());
            if (bytes.size() >= signature.size() && !std::equal(signature.begin(), signature.end(), bytes.begin())) break;
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

std::string printable(const std::string& text) {
    constexpr char kDigits[] = "0123456789abcdef";
    std::string line;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte >= 0x20 && byte != 0x7F)
            line += c;
        else
            line += {'\\', 'x', kDigits[byte / 16], kDigits[byte % 16]};
    }
    return line;
}

void check_told() {
    if (std::fflush(stdout) != 0 || std::ferror(stdout))
        throw Error(BASIC_BAD_ARGUMENT, std::string("standard output: cannot be written (") + std::strerror(errno) +
                                            "): check where it goes");
}

void note(const Program& program, const std::string& path, const std::string& line) {
    std::fprintf(stderr, "%s: note: %s: %s\n", program.name, printable(shown(path)).c_str(), line.c_str());
}

int exit_status(const Program& program, const std::function<void()>& work) {
    try {
        work();
        return 0;
    } catch (...) {
        tell_error(program);
    }
    return 1;
}

}  // namespace basic::codec
