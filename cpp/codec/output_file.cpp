#include "output_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "errors.hpp"

namespace basic::codec {
namespace {

[[noreturn]] void cannot_write(const std::string& path, int error) {
    throw Error(BASIC_BAD_ARGUMENT, path + ": cannot be written (" + std::strerror(error) + "): name another file");
}

}  // namespace

void check_free(const std::string& path, bool overwrite) {
    struct stat status {};
    if (path != "-" && !overwrite && lstat(path.c_str(), &status) == 0)
        throw Error(BASIC_BAD_ARGUMENT, path + ": is there already: replace it with --overwrite");
}

OutputFile::OutputFile(const std::string& path, bool overwrite)
    : path_(path), overwrite_(overwrite), beside_(path + ".part-" + std::to_string(getpid())) {
    if (path == "-") return;
    const int file = open(beside_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file < 0 || (file_ = fdopen(file, "wb")) == nullptr) cannot_write(path, errno);
}

OutputFile::~OutputFile() {
    if (file_ == stdout) return;
    if (file_ != nullptr) std::fclose(file_);
    if (!done_) std::remove(beside_.c_str());
}

void OutputFile::put(Bytes bytes) {
    if (std::fwrite(bytes.data(), 1, bytes.size(), file_) != bytes.size()) cannot_write(path_, errno);
}

void OutputFile::finish() {
    if (std::fflush(file_) != 0) cannot_write(path_, errno);
    if (file_ == stdout) return;
    FILE* const file = std::exchange(file_, nullptr);
    if (std::fclose(file) != 0) cannot_write(path_, errno);
    // A link fails where there is such a file by now, which a rename would replace; some file systems have none.
    if (!overwrite_ && link(beside_.c_str(), path_.c_str()) == 0) return;
    if (!overwrite_ && errno == EEXIST) cannot_write(path_, EEXIST);
    if (std::rename(beside_.c_str(), path_.c_str()) != 0) cannot_write(path_, errno);
    done_ = true;
}

}  // namespace basic::codec
