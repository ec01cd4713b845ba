#include "output_file.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <random>
#include <system_error>
#include <utility>

#include "errors.hpp"
#include "system.hpp"

namespace basic::codec {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void cannot_write(const std::string& path, const std::string& why) {
    const std::string line = ": cannot be written (" + why + "): ";
    if (path == "-") throw Error(BASIC_BAD_ARGUMENT, "standard output" + line + "check where it goes");
    throw Error(BASIC_BAD_ARGUMENT, path + line + "name another file");
}

// A stream that this process was given, be it a file.
bool is_descriptor(const std::string& path) {
    constexpr const char* kDescriptors[] = {"/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/self/fd/"};
    return std::any_of(std::begin(kDescriptors), std::end(kDescriptors),
                       [&](const char* known) { return path.starts_with(known); });
}

bool is_written_directly(const std::string& path) {
    std::error_code ignored;
    const fs::file_status found = status(path_of(path), ignored);
    return is_descriptor(path) || (exists(found) && !is_regular_file(found));
}

// What a name stands for if it is a link, be its target there or not.
fs::path followed(fs::path path) {
    constexpr int kMostLinks = 40;  // as Linux follows
    std::error_code ignored;
    for (int links = 0; links < kMostLinks && is_symlink(symlink_status(path, ignored)); ++links)
        path = path.parent_path() / read_symlink(path, ignored);
    return path;
}

// A hidden name in the same folder that no other program takes, however often numbers of processes repeat. It is short,
// whatever the length of the target's.
std::string name_beside(const fs::path& target) {
    constexpr size_t kKept = 64;
    std::string known = name_of(target.filename());
    size_t size = std::min(known.size(), kKept);
    while (size < known.size() && size > 0 && (known[size] & 0xC0) == 0x80) --size;  // within a letter of several bytes
    known.resize(size);
    char number[16];
    std::snprintf(number, sizeof number, "%08x", static_cast<unsigned>(std::random_device()()));
    return name_of(target.parent_path() / path_of("." + known + "." + number + ".tmp"));
}

}  // namespace

void check_free(const std::string& path, bool overwrite) {
    std::error_code ignored;
    if (path == "-" || is_descriptor(path)) return;
    const fs::file_status found = status(path_of(path), ignored);
    if (is_directory(found)) throw Error(BASIC_BAD_ARGUMENT, path + ": is a folder: name a file in it");
    if (is_regular_file(found) && !overwrite)
        throw Error(BASIC_BAD_ARGUMENT, path + ": is there already: replace it with --overwrite");
}

OutputFile::OutputFile(const std::string& path, bool overwrite) : path_(path), overwrite_(overwrite) {
    if (path == "-")
        file_ = standard_output();
    else if (is_written_directly(path))
        file_ = file_to_append(path);
    else
        open_beside();
    if (file_ == nullptr) cannot_write(path, std::strerror(errno));
}

void OutputFile::open_beside() {
    constexpr int kTries = 100;
    target_ = followed(path_of(path_));
    for (int tries = 0; tries < kTries && file_ == nullptr && (tries == 0 || errno == EEXIST); ++tries) {
        beside_ = name_beside(target_);
        mark_unfinished(beside_);
        file_ = new_file(beside_);
        if (file_ != nullptr) return;
        const int reason = errno;
        mark_finished(beside_);
        errno = reason;
    }
}

OutputFile::~OutputFile() {
    if (file_ != nullptr && file_ != stdout) std::fclose(file_);
    if (beside_.empty()) return;
    std::error_code ignored;
    if (!done_) fs::remove(path_of(beside_), ignored);
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
    if (beside_.empty()) return;
    const fs::path beside = path_of(beside_);
    std::error_code problem;
    if (!overwrite_) {
        // A link fails where there is such a file by now, which a rename would replace; some file systems have none.
        create_hard_link(beside, target_, problem);
        if (!problem) return;
        if (problem == std::errc::file_exists) cannot_write(path_, problem.message());
    }
    if (const fs::file_status replaced = status(target_, problem); exists(replaced)) {
        permissions(beside, replaced.permissions(), problem);
        if (problem) cannot_write(path_, problem.message());
    }
    rename(beside, target_, problem);
    if (problem) cannot_write(path_, problem.message());
    done_ = true;
}

}  // namespace basic::codec
