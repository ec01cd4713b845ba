// Where systems differ: names of files are UTF-8 here, and streams are bytes.
#pragma once

#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

namespace basic::codec {

// The program's name and what follows; patterns of files are expanded, be it by the shell or here.
std::vector<std::string> arguments_of(int count, char** arguments);

std::filesystem::path path_of(const std::string& name);
std::string name_of(const std::filesystem::path& path);

FILE* standard_input();
FILE* standard_output();

// Null, with errno set, where it cannot be. A new file must not be there yet; of one to append to, what is there stays.
FILE* open_file(const std::string& name);
FILE* new_file(const std::string& name);
FILE* file_to_append(const std::string& name);

// From the first call on, Ctrl-C and its like remove the files that are marked before they end the program (not on Windows,
// where files that are open cannot be removed).
void mark_unfinished(const std::string& name);
void mark_finished(const std::string& name);

}  // namespace basic::codec
