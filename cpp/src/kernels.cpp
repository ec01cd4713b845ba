#include "basic/kernels.hpp"

#include <algorithm>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "basic/dots.hpp"
#include "dots_list.hpp"
#include "kernel_list.hpp"

#if defined(BASIC_AVX_VNNI) || defined(BASIC_AMX)
#include <cpuid.h>
#endif
#if defined(BASIC_AMX)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace basic {
namespace {

#if defined(BASIC_AVX_VNNI)
// Not all compilers' tests know it. Its registers are those of AVX2.
bool has_avx_vnni() {
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || a < 1) return false;  // how many lists of features there are
    __cpuid_count(7, 1, a, b, c, d);
    return (a & 1u << 4) != 0;
}
#endif

#if defined(BASIC_AMX)
// Whether there are tiles and sums of bytes in them, and Linux lets this process use them: it asks to be asked first, as
// threads that do take 8 KB more to be put aside. It may refuse, if a thread's stack for signals has no room for that.
bool has_amx() {
    constexpr unsigned kTile = 1u << 24, kInt8 = 1u << 25, kTileState = 3u << 17, kSavesStates = 1u << 27;
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & kSavesStates) == 0) return false;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & kTile) == 0 || (d & kInt8) == 0) return false;
    unsigned low, high;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM of Linux 5.16 and later
    return (low & kTileState) == kTileState && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#endif

constexpr const char *kCoderVariable = "BASIC_CODER_KERNEL", *kDotsVariable = "BASIC_DOTS_KERNEL";

#if defined(BASIC_AMX)
// Whether the environment names one of these: Linux is not asked for tiles then, with which signals need larger stacks.
bool names_one_of(const std::vector<const Dots*>& dots) {
    const char* const name = std::getenv(kDotsVariable);
    return name != nullptr && std::any_of(dots.begin(), dots.end(),
                                          [&](const Dots* known) { return std::string_view(known->name) == name; });
}
#endif

struct Available {
    std::vector<const Kernels*> kernels;
    std::vector<const Dots*> dots;

    Available() {
#if defined(BASIC_X86_KERNELS)
        __builtin_cpu_init();
        // The compilers' test includes the operating system's consent to save the wide registers.
        const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
                          __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
        const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                            __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
        const bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
        if (vnni) dots.push_back(&kAvx512VnniDots);
        if (avx512) add(kAvx512Kernels, kAvx512Dots);
#if defined(BASIC_AVX_VNNI)
        if (avx2 && has_avx_vnni()) dots.push_back(&kAvxVnniDots);
#endif
        if (avx2) add(kAvx2Kernels, kAvx2Dots);
#elif defined(BASIC_NEON_KERNELS)
        add(kNeonKernels, kNeonDots);  // part of every 64-bit ARM processor
#elif defined(BASIC_WASM_KERNELS)
        dots.push_back(&kWasmDots);
#endif
        add(kScalarKernels, kScalarDots);
#if defined(BASIC_AMX)
        if (vnni && __builtin_cpu_supports("avx512vbmi") && !names_one_of(dots) && has_amx())
            dots.insert(dots.begin(), &kAmxDots);
#endif
    }

  private:
    void add(const Kernels& coder, const Dots& network) {
        kernels.push_back(&coder);
        dots.push_back(&network);
    }
};

const Available& available() {
    static const Available found;
    return found;
}

template <typename Version>
const Version& named(std::span<const Version* const> versions, std::string_view name, const char* variable) {
    std::string names;
    for (const Version* version : versions) {
        if (name == version->name) return *version;
        names += (names.empty() ? "" : ", ") + std::string(version->name);
    }
    throw KernelError("no kernel '" + std::string(name) + "' here: " + variable + " may be " + names);
}

template <typename Version>
const Version& preferred(std::span<const Version* const> versions, const char* variable) {
    const char* name = std::getenv(variable);
    return name == nullptr || *name == '\0' ? *versions.front() : named(versions, name, variable);
}

}  // namespace

std::span<const Kernels* const> available_kernels() { return available().kernels; }

const Kernels& kernels_named(std::string_view name) { return named(available_kernels(), name, kCoderVariable); }

const Kernels& default_kernels() {
    static const Kernels& chosen = preferred(available_kernels(), kCoderVariable);
    return chosen;
}

std::span<const Dots* const> available_dots() { return available().dots; }

const Dots& dots_named(std::string_view name) { return named(available_dots(), name, kDotsVariable); }

const Dots& default_dots() {
    static const Dots& chosen = preferred(available_dots(), kDotsVariable);
    return chosen;
}

}  // namespace basic
