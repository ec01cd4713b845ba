// Files that take their names once they are whole.
#pragma once

#include <cstdio>
#include <string>

#include "reader.hpp"

namespace basic::codec {

// Throws Error if a file is there that may not be replaced.
void check_free(const std::string& path, bool overwrite);

// "-" is standard output. What fails throws Error, and leaves nothing behind.
class OutputFile {
  public:
    OutputFile(const std::string& path, bool overwrite);
    ~OutputFile();
    OutputFile(const OutputFile&) = delete;

    void put(Bytes bytes);
    void put(const std::string& text) { put({reinterpret_cast<const uint8_t*>(text.data()), text.size()}); }

    void finish();

  private:
    const std::string path_;
    const bool overwrite_;
    const std::string beside_;
    FILE* file_ = nullptr;
    bool done_ = false;  // whether no file is left under the first name
};

}  // namespace basic::codec
