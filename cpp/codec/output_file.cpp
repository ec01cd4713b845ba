#include "output_file.hpp"

#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "errors.hpp"
#include "system.hpp"

namespace basic::codec {
namespace {

[[noreturn]] void cannot_write(const std::string& path, const std::string& why) {
    throw Error(BASIC_BAD_ARGUMENT, path + ": cannot be written (" + why + "): name another file");
}

}  // namespace

void check_free(const std::string& path, bool overwrite) {
    std::error_code ignored;
    if (path != "-" && !overwrite && exists(symlink_status(path_of(path), ignored)))
        throw Error(BASIC_BAD_ARGUMENT, path + ": is there already: replace it with --overwrite");
}

OutputFile::OutputFile(const std::string& path, bool overwrite)
    : path_(path), overwrite_(overwrite), beside_(path + ".part-" + std::to_string(process_number())) {
    if (path != "-") mark_unfinished(beside_);
    file_ = path == "-" ? standard_output() : new_file(beside_);
    if (file_ != nullptr) return;
    const int reason = errno;
    mark_finished(beside_);
    cannot_write(path, std::strerror(reason));
}

OutputFile::~OutputFile() {
    if (file_ == stdout) return;
    if (file_ != nullptr) std::fclose(file_);
    std::error_code ignored;
    if (!done_) std::filesystem::remove(path_of(beside_), ignored);
    mark_finished(beside_);
}

void OutputFile::put(Bytes bytes) {
    if (bytes.empty()) return;  // of which there may be no address
    if (std::fwrite(bytes.data(), 1, bytes.size(), file_) != bytes.size()) cannot_write(path_, std::strerror(errno));
}

void OutputFile::finish() {
    if (std::fflush(file_) != 0) cannot_write(path_, std::strerror(errno));
    if (file_ == stdout) return;
    if (std::fclose(std::exchange(file_, nullptr)) != 0) cannot_write(path_, std::strerror(errno));
    const std::filesystem::path beside = path_of(beside_), path = path_of(path_);
    std::error_code problem;
    if (!overwrite_) {
        // A link fails where there is such a file by now, which a rename would replace; some file systems have none.
        create_hard_link(beside, path, problem);
        if (!problem) return;
        if (problem == std::errc::file_exists) cannot_write(path_, problem.message());
    }
    rename(beside, path, problem);
    if (problem) cannot_write(path_, problem.message());
    done_ = true;
}

}  // namespace basic::codec
