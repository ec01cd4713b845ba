// In a file of its own, so that compilers see no pair of new and free.
#include "failing_memory.hpp"

#include <cstdlib>
#include <new>

std::atomic<long> allocations_left = -1;

void* operator new(size_t size, const std::nothrow_t&) noexcept {
    if (allocations_left < 0 || allocations_left-- > 0) return std::malloc(size);
    allocations_left = 0;
    return nullptr;
}
void* operator new(size_t size) {
    if (void* const memory = operator new(size, std::nothrow)) return memory;
    throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
