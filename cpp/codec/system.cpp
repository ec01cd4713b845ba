#include "system.hpp"

#include <fcntl.h>

#ifdef _WIN32
#include <io.h>
#include <sys/stat.h>
#include <windows.h>

#include <shellapi.h>

#include <algorithm>
#include <utility>
#else
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstring>
#include <mutex>
#endif

namespace basic::codec {

#ifdef _WIN32

namespace {

// What a pattern stands for, which no shell of Windows expands; itself where it is none, or stands for nothing.
std::vector<std::string> expanded(const std::wstring& argument) {
    const std::filesystem::path path = argument;
    std::vector<std::string> names;
    WIN32_FIND_DATAW found;
    const HANDLE search = argument.find_first_of(L"*?") == std::wstring::npos
                              ? INVALID_HANDLE_VALUE
                              : FindFirstFileW(argument.c_str(), &found);
    if (search == INVALID_HANDLE_VALUE) return {name_of(path)};
    do {
        if ((found.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY) == 0)
            names.push_back(name_of(path.parent_path() / found.cFileName));
    } while (FindNextFileW(search, &found));
    FindClose(search);
    std::sort(names.begin(), names.end());
    return names;
}

}  // namespace

// Those of `main` are in the system's own code page, which lacks most letters.
std::vector<std::string> arguments_of(int, char**) {
    int count = 0;
    wchar_t** const wide = CommandLineToArgvW(GetCommandLineW(), &count);
    std::vector<std::string> arguments;
    for (int k = 0; k < count; ++k)
        for (std::string& name : expanded(wide[k])) arguments.push_back(std::move(name));
    LocalFree(wide);
    return arguments;
}

std::filesystem::path path_of(const std::string& name) { return std::u8string(name.begin(), name.end()); }

std::string name_of(const std::filesystem::path& path) {
    const std::u8string text = path.generic_u8string();  // with slashes, which all of Windows takes, too
    return {text.begin(), text.end()};
}

FILE* standard_input() {
    _setmode(_fileno(stdin), _O_BINARY);
    return stdin;
}

FILE* standard_output() {
    _setmode(_fileno(stdout), _O_BINARY);
    return stdout;
}

FILE* open_file(const std::string& name) { return _wfopen(path_of(name).c_str(), L"rb"); }

FILE* new_file(const std::string& name) {
    const int file = _wopen(path_of(name).c_str(), _O_WRONLY | _O_CREAT | _O_EXCL | _O_BINARY | _O_NOINHERIT,
                            _S_IREAD | _S_IWRITE);
    return file < 0 ? nullptr : _fdopen(file, "wb");
}

FILE* file_to_append(const std::string& name) { return _wfopen(path_of(name).c_str(), L"ab"); }

void mark_unfinished(const std::string&) {}
void mark_finished(const std::string&) {}

#else

namespace {

// What a handler of signals may read: memory that stays. More files than threads are never written at once, and of longer
// names there are none.
struct Unfinished {
    std::atomic<bool> there = false;
    char name[4096];
};
Unfinished unfinished[64];
std::mutex marks;

extern "C" void remove_unfinished(int number) {
    for (const Unfinished& each : unfinished)
        if (each.there) unlink(each.name);
    std::signal(number, SIG_DFL);
    std::raise(number);
}

// A signal that the caller ignores, as nohup does, stays so. Files beyond a limit of size fail as on a full disk.
void install_handlers() {
    for (const int number : {SIGINT, SIGTERM, SIGHUP})
        if (std::signal(number, remove_unfinished) == SIG_IGN) std::signal(number, SIG_IGN);
    std::signal(SIGXFSZ, SIG_IGN);
}

}  // namespace

std::vector<std::string> arguments_of(int count, char** arguments) { return {arguments, arguments + count}; }

std::filesystem::path path_of(const std::string& name) { return name; }
std::string name_of(const std::filesystem::path& path) { return path; }

FILE* standard_input() { return stdin; }
FILE* standard_output() { return stdout; }

FILE* open_file(const std::string& name) { return std::fopen(name.c_str(), "rb"); }

FILE* new_file(const std::string& name) {
    const int file = open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    return file < 0 ? nullptr : fdopen(file, "wb");
}

FILE* file_to_append(const std::string& name) { return std::fopen(name.c_str(), "ab"); }

void mark_unfinished(const std::string& name) {
    const std::lock_guard lock(marks);
    [[maybe_unused]] static const bool installed = (install_handlers(), true);
    for (Unfinished& each : unfinished) {
        if (each.there || name.size() >= sizeof each.name) continue;
        std::strcpy(each.name, name.c_str());
        each.there = true;
        return;
    }
}

void mark_finished(const std::string& name) {
    const std::lock_guard lock(marks);
    for (Unfinished& each : unfinished)
        if (each.there && name == each.name) each.there = false;
}

#endif

}  // namespace basic::codec
