#include "basic/memory.hpp"

#include <algorithm>
#include <new>
#include <utility>
#include <vector>

namespace basic {
namespace {

// Below, malloc keeps memory itself; no thread keeps more than the second, nor pieces larger than half of it.
constexpr size_t kSmall = 64 << 10, kKept = 48 << 20;

struct Piece {
    void* data;
    size_t bytes;
};

// What this thread keeps; trivially destructible is only the mark that it is gone, as at the end of a thread others'
// destructors may still end tensors.
thread_local bool gone = false;

struct Spares {
    std::vector<Piece> pieces;
    size_t bytes = 0;

    ~Spares() {
        gone = true;
        for (const Piece& piece : pieces) ::operator delete(piece.data);
    }
};

Spares& spares() {
    thread_local Spares found;
    return found;
}

}  // namespace

Memory::Memory(size_t bytes) : bytes_(bytes) {
    if (bytes >= kSmall && !gone) {
        Spares& kept = spares();
        // The smallest that is large enough, if it is not much too large.
        auto best = kept.pieces.end();
        for (auto piece = kept.pieces.begin(); piece != kept.pieces.end(); ++piece)
            if (piece->bytes >= bytes && piece->bytes / 2 <= bytes &&
                (best == kept.pieces.end() || piece->bytes < best->bytes))
                best = piece;
        if (best != kept.pieces.end()) {
            data_ = best->data, bytes_ = best->bytes;
            kept.bytes -= bytes_;
            kept.pieces.erase(best);
            return;
        }
    }
    data_ = ::operator new(bytes);
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
    if (bytes_ >= kSmall && bytes_ <= kKept / 2 && !gone) {
        Spares& kept = spares();
        try {
            kept.pieces.push_back({data_, bytes_});
            kept.bytes += bytes_;
            while (kept.bytes > kKept) {  // the oldest goes: pictures of another size are being coded now
                kept.bytes -= kept.pieces.front().bytes;
                ::operator delete(kept.pieces.front().data);
                kept.pieces.erase(kept.pieces.begin());
            }
            return;
        } catch (const std::bad_alloc&) {  // it is not kept, then
        }
    }
    ::operator delete(data_);
}

}  // namespace basic
