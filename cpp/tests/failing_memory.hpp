// Memory that ends when a test wants it to.
#pragma once

#include <atomic>

// How often operator new gives memory from now on; negative: always.
extern std::atomic<long> allocations_left;
