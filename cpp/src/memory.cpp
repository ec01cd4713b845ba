#include "basic/memory.hpp"

#include <algorithm>
#include <atomic>
#include <new>
#include <thread>
#include <utility>
#include <vector>

namespace basic {
namespace {

// Below, malloc keeps memory itself; of the processor's threads, up to so many, each adds the second to what is kept in
// all, and no piece is larger than half of that.
constexpr size_t kSmall = 64 << 10, kPerThread = 48 << 20, kMostThreads = 8;

struct Piece {
    void* data;
    size_t bytes;
    std::thread::id last;  // who gave it back, in whose cache it may still be
};

// What is kept, for all threads. It is never ended, as threads may be at work while the process ends, and made by
// constants, so that not even its first use takes a lock that a fork may leave closed.
constinit std::atomic_flag taken;
constinit std::vector<Piece>* pieces = nullptr;
constinit size_t kept = 0, most = 0;

// The lock, unless others hold it for longer than looking through a few pieces takes, as for ever after some forks: then
// there is memory without.
class Lock {
  public:
    Lock() {
        for (int look = 0; look <= 100 && !held_; ++look) held_ = !taken.test_and_set(std::memory_order_acquire);
    }
    ~Lock() {
        if (held_) taken.clear(std::memory_order_release);
    }
    Lock(const Lock&) = delete;

    explicit operator bool() const { return held_; }

  private:
    bool held_ = false;
};

// Of what is kept, the smallest piece that is large enough, if it is not much too large; of several this thread's.
void* take(size_t bytes, size_t& found) {
    const Lock lock;
    if (!lock || pieces == nullptr) return nullptr;
    const auto here = std::this_thread::get_id();
    auto best = pieces->end();
    for (auto piece = pieces->begin(); piece != pieces->end(); ++piece)
        if (piece->bytes >= bytes && piece->bytes / 2 <= bytes &&
            (best == pieces->end() || piece->bytes < best->bytes || (piece->bytes == best->bytes && piece->last == here)))
            best = piece;
    if (best == pieces->end()) return nullptr;
    void* const data = best->data;
    found = best->bytes;
    kept -= found;
    pieces->erase(best);
    return data;
}

// Whether a piece is kept from now on.
bool keep(void* data, size_t bytes) {
    const Lock lock;
    if (!lock) return false;
    try {
        if (pieces == nullptr) pieces = new std::vector<Piece>;
        if (most == 0)
            most = kPerThread * std::clamp<size_t>(std::thread::hardware_concurrency(), 1, kMostThreads);
        pieces->push_back({data, bytes, std::this_thread::get_id()});
    } catch (const std::bad_alloc&) {
        return false;
    }
    kept += bytes;
    while (kept > most) {  // the oldest goes: pictures of another size are being coded now
        kept -= pieces->front().bytes;
        ::operator delete(pieces->front().data);
        pieces->erase(pieces->begin());
    }
    return true;
}

}  // namespace

Memory::Memory(size_t bytes) : bytes_(bytes) {
    if (bytes >= kSmall) data_ = take(bytes, bytes_);
    if (data_ == nullptr) data_ = ::operator new(bytes);
}

Memory::Memory(Memory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Memory& Memory::operator=(Memory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
}

Memory::~Memory() {
    if (data_ == nullptr) return;
    if (bytes_ >= kSmall && bytes_ <= kPerThread / 2 && keep(data_, bytes_)) return;
    ::operator delete(data_);
}

}  // namespace basic
