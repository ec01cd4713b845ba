// Weights of integer networks, which begin with a line of the caches.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

namespace basic {

template <typename Value>
struct LineAllocator {
    using value_type = Value;
    static constexpr std::align_val_t kLine{64};

    LineAllocator() = default;
    template <typename Other>
    explicit LineAllocator(const LineAllocator<Other>&) {}

    Value* allocate(size_t count) { return static_cast<Value*>(::operator new(count * sizeof(Value), kLine)); }
    void deallocate(Value* values, size_t) { ::operator delete(values, kLine); }
    bool operator==(const LineAllocator&) const { return true; }
};

using Weights = std::vector<int16_t, LineAllocator<int16_t>>;

}  // namespace basic
