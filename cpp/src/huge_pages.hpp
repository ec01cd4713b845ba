// Memory for tables that are read all over: on huge pages, where the system has them. Reading 64 rows of 16 KiB
// then looks up one page instead of 256.
#pragma once

#include <cstddef>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace basic {

inline constexpr size_t kHugePage = size_t{2} << 20;

// For free_huge. Throws std::bad_alloc.
inline void* allocate_huge(size_t bytes) {
    void* memory = ::operator new((bytes + kHugePage - 1) / kHugePage * kHugePage, std::align_val_t{kHugePage});
#ifdef MADV_HUGEPAGE
    madvise(memory, bytes, MADV_HUGEPAGE);  // where refused, pages are small
#endif
    return memory;
}

inline void free_huge(void* memory) { ::operator delete(memory, std::align_val_t{kHugePage}); }

}  // namespace basic
