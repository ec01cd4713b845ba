// What the commands share.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "basic_codec.h"
#include "reader.hpp"

namespace basic::codec {

struct Program {
    const char *name, *usage;
};

// What an option does: one that stands alone sets a flag, one that is followed by text takes it, or else by a whole
// number from `least` to `most`.
struct Option {
    const char* name;
    bool* flag = nullptr;
    unsigned long long least = 0, most = 0;
    std::function<void(unsigned long long)> number = {};
    std::function<void(const std::string&)> text = {};
};

// The names among the arguments, once options have done what they do; -- ends them. --help and --version end the program
// with status 0, anything else with status 2, as do empty names.
std::vector<std::string> parsed(const Program& program, const std::vector<Option>& options, int count,
                                char** arguments);

// Ends the program with status 2.
[[noreturn]] void misused(const Program& program, const std::string& line);

// "-" is standard input. Throws Error, also for more bytes than a file may have. Reads no more of what does not begin with
// `signature`, which whoever takes the bytes finds out.
std::vector<uint8_t> read_file(const std::string& path, Bytes signature = {});

// A model file. Throws Error.
basic_model* open_model(const std::string& path, unsigned threads);

// Throws Error, with the file named in it, unless it went well.
void require_ok(basic_status status, const std::string& path, const char* error);

// "standard input" for "-".
std::string shown(const std::string& path);

// With control characters escaped, so that it is one line and does nothing else to a terminal.
std::string printable(const std::string& text);

// Throws Error unless all that was printed has gone out.
void check_told();

// A line on standard error that is no error.
void note(const Program& program, const std::string& path, const std::string& line);

// The exit status of a command that does this; what it throws is told in one line.
int exit_status(const Program& program, const std::function<void()>& work);

}  // namespace basic::codec
