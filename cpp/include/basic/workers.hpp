// Threads that share out the work of a network's layers.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

namespace basic {

// A process has one group for each number of threads, however many networks use it. A thread that waits for the next
// piece of work spins for a moment first, as pieces are shorter than waking a thread takes.
class Workers {
  public:
    // The group of so many threads, the caller's own among them; it is started when it is first used.
    static std::shared_ptr<Workers> of(size_t threads);

    virtual ~Workers() = default;

    // Calls work(0) to work(count - 1), some of them on other threads, and returns when all have ended. `work` must
    // not throw. A group that is at work for another caller, or was left behind by fork(), leaves all to this thread.
    virtual void each(size_t count, const std::function<void(size_t)>& work) = 0;

    virtual size_t threads() const = 0;
};

}  // namespace basic
