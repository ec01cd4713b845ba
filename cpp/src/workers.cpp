#include "basic/workers.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "basic/process.hpp"

namespace basic {
namespace {

constexpr auto kSpin = std::chrono::microseconds(200);
constexpr int kLooks = 64;  // between two looks at the clock

void pause_briefly() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Whether `there` becomes true while this thread spins for a moment.
template <typename Condition>
bool spin_for(const Condition& there) {
    const auto end = std::chrono::steady_clock::now() + kSpin;
    do {
        for (int look = 0; look < kLooks; ++look) {
            if (there()) return true;
            pause_briefly();
        }
    } while (std::chrono::steady_clock::now() < end);
    return there();
}

// Threads of one process, and the round that they are at.
class Team {
  public:
    // Where the system gives no more threads, those that are there do the work: they know this team, which must stay.
    explicit Team(size_t threads) : owner_(process()) {
        try {
            for (; count_ < threads; ++count_) {
                const bool from_back = count_ % 2 == 1;
                std::thread([this, from_back] { serve(from_back); }).detach();
            }
        } catch (const std::exception&) {  // std::system_error, or memory that is not there
        }
    }

    long owner() const { return owner_; }

    // Whether it did all of it: a team that is at work for another caller, or has no threads, does nothing.
    bool each(size_t count, const std::function<void(size_t)>& work) {
        if (count_ <= 1 || busy_.exchange(true, std::memory_order_acquire)) return false;
        work_ = &work;
        error_ = nullptr;
        done_.store(0, std::memory_order_relaxed);
        {
            const std::lock_guard lock(mutex_);
            tickets_.store(uint64_t{count} << 2 * kFieldBits, std::memory_order_release);
        }
        if (sleepers_.load() > 0) wake_.notify_all();
        take(false);
        const auto over = [&] { return done_.load(std::memory_order_acquire) == count; };
        while (!spin_for(over)) std::this_thread::yield();
        const std::exception_ptr error = error_;
        busy_.store(false, std::memory_order_release);
        if (error) std::rethrow_exception(error);
        return true;
    }

    // Pieces in all, and pieces taken from the back and the front, in one word: who takes a piece knows that it is one of
    // a round that goes on, whichever, so that no thread waits for one that comes late.
    static constexpr int kFieldBits = 21;
    static constexpr uint64_t kMost = (uint64_t{1} << kFieldBits) - 1;  // pieces of a round

  private:
    static uint64_t front(uint64_t tickets) { return tickets & kMost; }
    static uint64_t back(uint64_t tickets) { return tickets >> kFieldBits & kMost; }
    static uint64_t all(uint64_t tickets) { return tickets >> 2 * kFieldBits & kMost; }
    static bool left(uint64_t tickets) { return front(tickets) + back(tickets) < all(tickets); }

    // Half of the threads take pieces from the back: what a thread wrote in one round it is likely to read in the next,
    // from its own cache.
    void take(bool from_back) {
        const uint64_t one = from_back ? uint64_t{1} << kFieldBits : 1;
        uint64_t tickets = tickets_.load(std::memory_order_acquire);
        while (left(tickets))
            if (tickets_.compare_exchange_weak(tickets, tickets + one, std::memory_order_acq_rel)) {
                try {
                    (*work_)(from_back ? all(tickets) - 1 - back(tickets) : front(tickets));
                } catch (...) {
                    const std::lock_guard lock(mutex_);
                    if (!error_) error_ = std::current_exception();
                }
                done_.fetch_add(1, std::memory_order_release);
                tickets = tickets_.load(std::memory_order_acquire);
            }
    }

    void serve(bool from_back) {
        const auto called = [&] { return left(tickets_.load(std::memory_order_acquire)); };
        for (;;) {
            if (!spin_for(called)) {
                std::unique_lock lock(mutex_);
                ++sleepers_;
                wake_.wait(lock, called);
                --sleepers_;
            }
            take(from_back);
        }
    }

    size_t count_ = 1;  // set before anybody but the constructor knows the team; its threads do not look
    const long owner_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::atomic<bool> busy_{false};
    std::atomic<uint64_t> tickets_{0}, done_{0};
    std::atomic<size_t> sleepers_{0};
    const std::function<void(size_t)>* work_ = nullptr;
    std::exception_ptr error_;
};

class Group final : public Workers {
  public:
    explicit Group(size_t threads) : threads_(threads) {}

    void each(size_t count, const std::function<void(size_t)>& work) override {
        if (count > Team::kMost) {  // some at a time, then
            const size_t share = (count + Team::kMost - 1) / Team::kMost;
            each((count + share - 1) / share, [&](size_t number) {
                for (size_t k = number * share; k < std::min(count, (number + 1) * share); ++k) work(k);
            });
            return;
        }
        Team* const team = count > 1 && threads_ > 1 ? present() : nullptr;
        if (team == nullptr || !team->each(count, work))
            for (size_t k = 0; k < count; ++k) work(k);
    }

    size_t threads() const override { return threads_; }

  private:
    // The team of this process, made where there is none, as after fork(), which leaves threads behind: the parent's team
    // is then left as it is, since its locks may be closed for ever. None as long as another thread makes it.
    Team* present() {
        const long here = process();
        Team* team = team_.load(std::memory_order_acquire);
        if (team != nullptr && team->owner() == here) return team;
        long maker = maker_.load(std::memory_order_relaxed);
        if (maker == here || !maker_.compare_exchange_strong(maker, here)) return nullptr;
        team = new Team(threads_);
        team_.store(team, std::memory_order_release);
        return team;
    }

    const size_t threads_;
    std::atomic<Team*> team_{nullptr};
    std::atomic<long> maker_{-1};  // the process whose thread made the team, or makes it
};

// Never destroyed: threads may be at work while the process ends. Constants make it, so that there is no lock, which a
// fork might leave closed, not even that of a first call.
constinit std::array<std::atomic<Group*>, Workers::kMaxThreads + 1> groups{};

}  // namespace

Workers& Workers::of(size_t threads) {
    if (threads < 1 || threads > kMaxThreads)
        throw std::invalid_argument("threads must be 1 to " + std::to_string(kMaxThreads));
    Group* group = groups[threads].load(std::memory_order_acquire);
    if (group != nullptr) return *group;
    auto made = std::make_unique<Group>(threads);
    if (groups[threads].compare_exchange_strong(group, made.get(), std::memory_order_acq_rel)) return *made.release();
    return *group;
}

}  // namespace basic
