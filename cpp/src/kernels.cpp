#include "basic/kernels.hpp"

#include <cstdlib>
#include <string>

#include "kernel_list.hpp"

namespace basic {
namespace {

struct Available {
    const Kernels* list[3];
    size_t count = 0;

    Available() {
#if defined(BASIC_X86_KERNELS)
        __builtin_cpu_init();
        // The compilers' test includes the operating system's consent to save the wide registers.
        const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
                          __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
        const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                            __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
        if (avx2 && avx512) list[count++] = &kAvx512Kernels;
        if (avx2) list[count++] = &kAvx2Kernels;
#elif defined(BASIC_NEON_KERNELS)
        list[count++] = &kNeonKernels;  // part of every 64-bit ARM processor
#endif
        list[count++] = &kScalarKernels;
    }
};

const Kernels& choose_default() {
    const char* name = std::getenv("BASIC_CODER_KERNEL");
    return name == nullptr || *name == '\0' ? *available_kernels().front() : kernels_named(name);
}

}  // namespace

std::span<const Kernels* const> available_kernels() {
    static const Available available;
    return {available.list, available.count};
}

const Kernels& kernels_named(std::string_view name) {
    std::string names;
    for (const Kernels* kernels : available_kernels()) {
        if (name == kernels->name) return *kernels;
        names += (names.empty() ? "" : ", ") + std::string(kernels->name);
    }
    throw KernelError("no coder kernel '" + std::string(name) + "' here: BASIC_CODER_KERNEL may be " + names);
}

const Kernels& default_kernels() {
    static const Kernels& chosen = choose_default();
    return chosen;
}

}  // namespace basic
