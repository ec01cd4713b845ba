// The files of a command: one input and its output, or several and a folder.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "command_line.hpp"

namespace basic::codec {

struct Job {
    std::string input = {}, output = {};
    unsigned threads = 1;      // that it may use
    std::string problem = {};  // why it cannot be done
};

// A model, and one input, perhaps with its output, or inputs for an output folder.
struct FileArguments {
    std::vector<std::string> names;
    std::string output, folder;
    unsigned threads = 0;

    // Ends the program with status 2 where there are too few or too many names, or two kinds of outputs.
    void check(const Program& program, const std::string& line);

    const std::string& model() const { return names[0]; }
};

// Does `work` for each input with the model, several at a time. Each that throws is told in one line, and the others go
// on. Returns the exit status. Where none is named, and in an output folder, an output has its input's name with another
// ending; an input that is a folder stands for the files in it and below that have one of `endings` and are not hidden,
// with a dot in front, and its tree is kept.
int exit_status(const Program& program, const FileArguments& files, const std::vector<std::string>& endings,
                const std::string& ending, const std::function<void(const basic_model*, const Job&)>& work);

// The ending of a file's name in small letters, such as ".png".
std::string ending_of(const std::string& name);
bool ends_in(const std::string& name, const std::vector<std::string>& endings);

}  // namespace basic::codec
