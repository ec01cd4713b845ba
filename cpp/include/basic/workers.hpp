// Threads that share out pieces of work too short for waking a thread.
#pragma once

#include <cstddef>
#include <functional>

namespace basic {

// A process has one group for each number of threads, whoever uses it, from its first use to the end of the process. A
// thread that waits for the next piece of work spins for a moment before it sleeps.
class Workers {
  public:
    static constexpr size_t kMaxThreads = 1024;

    // The group of so many threads, the caller's own among them, or of fewer if the system gives no more. Throws
    // std::invalid_argument unless they are 1 to kMaxThreads.
    static Workers& of(size_t threads);

    // Calls work(0) to work(count - 1), some of them on other threads, and returns when all have ended. Throws what the
    // first of those threw that did. A group that is at work for another caller leaves all to this thread; after fork()
    // it gets new threads.
    virtual void each(size_t count, const std::function<void(size_t)>& work) = 0;

    virtual size_t threads() const = 0;  // as many as were asked for

  protected:
    ~Workers() = default;
};

}  // namespace basic
