// What is made of a model when it is needed, for all threads.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <thread>

#include "basic/process.hpp"

namespace basic::codec {

// Open, or closed by a thread of some process: a child that was forked while it was closed has no thread that
// would open it, and goes without.
class ForkLock {
  public:
    explicit ForkLock(std::atomic<long>& holder) : holder_(holder) {
        const long here = process();
        for (long holder = kOpen;
             !(held_ = holder_.compare_exchange_strong(holder, here)) && holder == here;) {
            std::this_thread::yield();
            holder = kOpen;
        }
    }
    ~ForkLock() {
        if (held_) holder_ = kOpen;
    }
    ForkLock(const ForkLock&) = delete;

    explicit operator bool() const { return held_; }

    static constexpr long kOpen = -1;

  private:
    std::atomic<long>& holder_;
    bool held_ = false;
};

// What was made by keys, up to `kMost` of them.
template <typename Key, typename Made, size_t kMost>
class Kept {
  public:
    // What `make` makes for this key, unless it is kept. Threads wait for the first that makes it.
    template <typename Make>
    std::shared_ptr<const Made> of(const Key& key, const Make& make) {
        const ForkLock lock(holder_);
        if (!lock) return make();
        const auto known = kept_.find(key);
        if (known != kept_.end()) return known->second;
        std::shared_ptr<const Made> made = make();
        if (kept_.size() == kMost) kept_.clear();
        kept_.emplace(key, made);
        return made;
    }

  private:
    std::atomic<long> holder_{ForkLock::kOpen};
    std::map<Key, std::shared_ptr<const Made>> kept_;
};

}  // namespace basic::codec
