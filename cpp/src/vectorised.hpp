// Loops over arrays in a version for each level of x86-64, which compilers vectorise. The loader of the program takes the
// version that the processor can run. All give the same bits: they are the same operations, each rounded once.
#pragma once

#if defined(BASIC_HAS_CLONES)  // asked of the compiler by CMakeLists.txt
#define BASIC_VECTORISED __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define BASIC_VECTORISED
#endif
