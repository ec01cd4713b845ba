// Files that take their names once they are whole.
#pragma once

#include <cstdio>
#include <filesystem>
#include <string>

#include "reader.hpp"

namespace basic::codec {

// Throws Error for a folder, and if a file is there that may not be replaced. Devices and pipes may always be written to.
void check_free(const std::string& path, bool overwrite);

// "-" is standard output. What fails throws Error, and leaves nothing behind. Devices, pipes and streams that this process was
// given, like /dev/stdout, are written to directly; of a link its target is replaced, which keeps its mode.
class OutputFile {
  public:
    OutputFile(const std::string& path, bool overwrite);
    ~OutputFile();
    OutputFile(const OutputFile&) = delete;

    void put(Bytes bytes);
    void put(const std::string& text) { put({reinterpret_cast<const uint8_t*>(text.data()), text.size()}); }

    void finish();

  private:
    void open_beside();

    const std::string path_;
    const bool overwrite_;
    std::filesystem::path target_;  // at the end of links
    std::string beside_;            // the file until it is whole; empty if it is written to directly
    FILE* file_ = nullptr;
    bool done_ = false;  // whether no file is left under the first name
};

}  // namespace basic::codec
