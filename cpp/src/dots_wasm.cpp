// 128-bit SIMD of WebAssembly.
#include <wasm_simd128.h>

#include <cstring>

#include "dots_blocks.hpp"
#include "dots_list.hpp"

namespace basic {
namespace {

struct Wasm {
    using Vector = v128_t;
    static constexpr int kLanes = 4, kVectors = 4, kPositions = 2;

    static Vector load(const int32_t* from) { return wasm_v128_load(from); }
    static void store(int32_t* to, Vector v) { wasm_v128_store(to, v); }
    static Vector load_pairs(const int16_t* from) { return wasm_v128_load(from); }
    static Vector repeat_pair(const int16_t* from) { return wasm_v128_load32_splat(from); }
    static Vector load_wide(const int16_t* from) { return wasm_i32x4_load16x4(from); }
    static Vector add(Vector a, Vector b) { return wasm_i32x4_add(a, b); }
    static Vector sub(Vector a, Vector b) { return wasm_i32x4_sub(a, b); }
    static Vector dot(Vector sum, Vector a, Vector b) { return wasm_i32x4_add(sum, wasm_i32x4_dot_i16x8(a, b)); }
    // Its own shifts are by one number for all lanes.
    static Vector shift_left(Vector v, const int32_t* by) {
        return wasm_i32x4_make(wasm_i32x4_extract_lane(v, 0) << by[0], wasm_i32x4_extract_lane(v, 1) << by[1],
                               wasm_i32x4_extract_lane(v, 2) << by[2], wasm_i32x4_extract_lane(v, 3) << by[3]);
    }
    static Vector shift_right(Vector v, const int32_t* by) {
        return wasm_i32x4_make(wasm_i32x4_extract_lane(v, 0) >> by[0], wasm_i32x4_extract_lane(v, 1) >> by[1],
                               wasm_i32x4_extract_lane(v, 2) >> by[2], wasm_i32x4_extract_lane(v, 3) >> by[3]);
    }
    static Vector leak(Vector v) {
        const Vector leaked = wasm_i32x4_shr(wasm_i32x4_add(v, wasm_i32x4_splat(1 << (kLeakBits - 1))), kLeakBits);
        return wasm_v128_bitselect(leaked, v, wasm_i32x4_shr(v, 31));
    }
    static Vector where_positive(Vector v, const int16_t* gate) {
        return wasm_v128_and(v, wasm_i32x4_gt(load_wide(gate), wasm_i32x4_splat(0)));
    }
    static Vector clamp(Vector v, const int32_t* low, const int32_t* high) {
        return wasm_i32x4_max(wasm_i32x4_min(v, load(high)), load(low));
    }
    static void store_narrow(int16_t* to, Vector v) { wasm_v128_store64_lane(to, wasm_i16x8_narrow_i32x4(v, v), 0); }

    using Values = v128_t;
    static constexpr int kValues = 8;

    static Values load_values(const int16_t* from) { return wasm_v128_load(from); }
    static void store_values(int16_t* to, Values v) { wasm_v128_store(to, v); }
    static Values add_values(Values a, Values b) { return wasm_i16x8_add(a, b); }
    static Values sub_values(Values a, Values b) { return wasm_i16x8_sub(a, b); }
    static Values least(Values a, Values b) { return wasm_i16x8_min(a, b); }
    static Values high_part(Values v) { return wasm_i16x8_shr(v, 2); }
    static Values low_part(Values v) { return wasm_v128_and(v, wasm_i16x8_splat(3)); }
    static Values most(Values a, Values b) { return wasm_i16x8_max(a, b); }
};

}  // namespace

const Dots kWasmDots = dots_of<Wasm>("wasm");

}  // namespace basic
