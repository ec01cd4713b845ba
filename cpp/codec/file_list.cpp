#include "file_list.hpp"

#include <algorithm>
#include <atomic>
#include <cctype>
#include <filesystem>
#include <map>
#include <memory>
#include <system_error>
#include <thread>

#include "errors.hpp"
#include "system.hpp"

namespace basic::codec {
namespace {

namespace fs = std::filesystem;

// Calls `found` for files of a folder and below with one of these endings, and `failed` for folders that cannot be read.
void each_file_in(const fs::path& folder, const std::vector<std::string>& endings,
                  const std::function<void(const fs::path&)>& found,
                  const std::function<void(const fs::path&, const std::string&)>& failed) {
    std::error_code problem;
    std::vector<fs::directory_entry> entries;
    for (fs::directory_iterator each(folder, problem), end; !problem && each != end; each.increment(problem))
        if (!name_of(each->path().filename()).starts_with('.')) entries.push_back(*each);
    if (problem) return failed(folder, problem.message());
    std::sort(entries.begin(), entries.end());
    for (const fs::directory_entry& entry : entries) {
        std::error_code unknown;
        if (entry.is_directory(unknown) && !entry.is_symlink(unknown))
            each_file_in(entry.path(), endings, found, failed);
        else if (entry.is_regular_file(unknown) && ends_in(name_of(entry.path()), endings))
            found(entry.path());
    }
}

// The output of an input that names none: its name with another ending.
std::string beside(const std::string& input, const std::string& ending) {
    if (input == "-") throw Error(BASIC_BAD_ARGUMENT, "standard input has no name for an output: name one, or -");
    return name_of(path_of(input).replace_extension(path_of(ending)));
}

// The jobs of inputs whose outputs go into a folder; one with a problem for each folder that cannot be read, or holds no
// inputs. Throws Error for two inputs of one output.
std::vector<Job> jobs_into(const FileArguments& files, const std::vector<std::string>& endings,
                           const std::string& ending) {
    const fs::path into = path_of(files.folder);
    std::vector<Job> jobs;
    std::map<std::string, std::string> taken;
    const auto add = [&](const fs::path& input, const fs::path& place) {
        const fs::path output = (into / place).replace_extension(path_of(ending));
        const auto [other, free] = taken.emplace(name_of(output), name_of(input));
        if (!free && other->second == name_of(input)) return;  // it was named twice
        if (!free)
            throw Error(BASIC_BAD_ARGUMENT, name_of(input) + ": has the same output as " + other->second + ", " +
                                                other->first + ": name them in two commands");
        jobs.push_back({.input = name_of(input), .output = name_of(output)});
    };
    const auto fail = [&](const fs::path& folder, const std::string& problem) {
        jobs.push_back({.input = name_of(folder), .problem = problem + ": leave this folder out"});
    };
    for (size_t k = 1; k < files.names.size(); ++k) {
        const std::string& name = files.names[k];
        if (name == "-") throw Error(BASIC_BAD_ARGUMENT, "standard input has no name to go into a folder: name a file");
        const fs::path input = path_of(name);
        if (std::error_code unknown; !fs::is_directory(input, unknown)) {
            add(input, input.filename());
            continue;
        }
        bool empty = true;
        each_file_in(
            input, endings,
            [&](const fs::path& file) {
                empty = false;
                add(file, file.lexically_relative(input));
            },
            [&](const fs::path& folder, const std::string& why) {
                empty = false;
                fail(folder, "cannot be read (" + why + ")");
            });
        if (empty) fail(input, "holds nothing for this command");
    }
    return jobs;
}

void make_folder_of(const std::string& output) {
    std::error_code problem;
    const fs::path folder = path_of(output).parent_path();
    if (!folder.empty()) fs::create_directories(folder, problem);
    if (problem)
        throw Error(BASIC_BAD_ARGUMENT,
                    name_of(folder) + ": cannot be made (" + problem.message() + "): name another folder");
}

using Model = std::unique_ptr<basic_model, void (*)(basic_model*)>;

Model opened(const FileArguments& files, unsigned threads) {
    return {open_model(files.model(), threads), basic_model_free};
}

// Calls `work`, which does not throw, with the numbers up to `count` on so many threads.
void each_of(size_t count, size_t threads, const std::function<void(size_t)>& work) {
    std::atomic<size_t> next = 0;
    const auto take = [&] {
        for (size_t k; (k = next++) < count;) work(k);
    };
    std::vector<std::thread> others;
    try {
        for (size_t k = 1; k < threads; ++k) others.emplace_back(take);
    } catch (const std::system_error&) {  // the system has no more of them: those that there are do all
    }
    take();
    for (std::thread& other : others) other.join();
}

}  // namespace

void FileArguments::check(const Program& program, const std::string& line) {
    if (!output.empty()) {
        if (names.size() != 2 || !folder.empty()) misused(program, "-o names the only output, of one input");
        names.push_back(output);
    }
    if (names.size() < 2 || (folder.empty() && names.size() > 3)) misused(program, line);
}

int exit_status(const Program& program, const FileArguments& files, const std::vector<std::string>& endings,
                const std::string& ending, const std::function<void(const basic_model*, const Job&)>& work) {
    std::atomic<int> failed = 0;
    const unsigned known = files.threads != 0 ? files.threads : std::max(1U, std::thread::hardware_concurrency());
    const int status = exit_status(program, [&] {
        if (files.folder.empty()) {
            const std::string output = files.names.size() == 3 ? files.names[2] : beside(files.names[1], ending);
            return work(opened(files, known).get(), {.input = files.names[1], .output = output, .threads = known});
        }
        std::vector<Job> jobs = jobs_into(files, endings, ending);
        const size_t hands = std::min<size_t>(known, jobs.size());
        const auto each = static_cast<unsigned>(known / hands);
        const Model model = opened(files, each);
        for (Job& job : jobs) job.threads = each;
        each_of(jobs.size(), hands, [&](size_t k) {
            failed |= exit_status(program, [&] {
                if (!jobs[k].problem.empty())
                    throw Error(BASIC_BAD_ARGUMENT, jobs[k].input + ": " + jobs[k].problem);
                make_folder_of(jobs[k].output);
                work(model.get(), jobs[k]);
            });
        });
    });
    return status | failed;
}

std::string ending_of(const std::string& name) {
    std::string text = name_of(path_of(name).extension());
    std::transform(text.begin(), text.end(), text.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return text;
}

bool ends_in(const std::string& name, const std::vector<std::string>& endings) {
    return std::find(endings.begin(), endings.end(), ending_of(name)) != endings.end();
}

}  // namespace basic::codec
