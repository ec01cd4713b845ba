// What the commands share.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "basic_codec.h"

namespace basic::codec {

// Ends the program with status 2.
[[noreturn]] void misused(const char* program, const std::string& line);

// The number that follows an option. Ends the program if it is none, or more than `most`.
unsigned long long number_of(const char* program, const std::string& option, const char* text, unsigned long long most);

// "-" is standard input. Throws Error.
std::vector<uint8_t> read_file(const std::string& path);

// A model file. Throws Error.
basic_model* open_model(const std::string& path, unsigned threads);

// Throws Error, with the file named in it, unless it went well.
void require_ok(basic_status status, const std::string& path, const char* error);

// The exit status of a command that does this; what it throws is told in one line.
int exit_status(const char* program, const std::function<void()>& work);

}  // namespace basic::codec
