// Memory for tables that are read all over: on huge pages, where the system has them. Reading 64 rows of 16 KiB
// then looks up one page instead of 256.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace basic {

// For std::free.
inline void* allocate_huge(size_t bytes) {
    constexpr size_t kPage = size_t{2} << 20;
    void* memory = std::aligned_alloc(kPage, (bytes + kPage - 1) / kPage * kPage);
    if (memory == nullptr) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    madvise(memory, bytes, MADV_HUGEPAGE);  // where refused, pages are small
#endif
    return memory;
}

}  // namespace basic
