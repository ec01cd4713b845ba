// NEON of 64-bit ARM: pairs are taken apart when they are read, as its products are of single values.
#include <arm_neon.h>

#include "dots_blocks.hpp"
#include "dots_list.hpp"

namespace basic {
namespace {

struct Neon {
    struct Vector {
        int32x4_t low, high;  // eight sums; or, of pairs: the first values of eight, and the second ones
    };
    static constexpr int kLanes = 8, kVectors = 2, kPositions = 4;

    static Vector load(const int32_t* from) { return {vld1q_s32(from), vld1q_s32(from + 4)}; }
    static void store(int32_t* to, Vector v) {
        vst1q_s32(to, v.low);
        vst1q_s32(to + 4, v.high);
    }
    static Vector load_pairs(const int16_t* from) {
        const int16x8x2_t pairs = vld2q_s16(from);
        return {vreinterpretq_s32_s16(pairs.val[0]), vreinterpretq_s32_s16(pairs.val[1])};
    }
    static Vector repeat_pair(const int16_t* from) {
        return {vreinterpretq_s32_s16(vdupq_n_s16(from[0])), vreinterpretq_s32_s16(vdupq_n_s16(from[1]))};
    }
    static Vector load_wide(const int16_t* from) {
        const int16x8_t values = vld1q_s16(from);
        return {vmovl_s16(vget_low_s16(values)), vmovl_high_s16(values)};
    }
    static Vector add(Vector a, Vector b) { return {vaddq_s32(a.low, b.low), vaddq_s32(a.high, b.high)}; }
    static Vector sub(Vector a, Vector b) { return {vsubq_s32(a.low, b.low), vsubq_s32(a.high, b.high)}; }
    static Vector shift_left(Vector v, const int32_t* by) {
        return {vshlq_s32(v.low, vld1q_s32(by)), vshlq_s32(v.high, vld1q_s32(by + 4))};
    }
    static Vector dot(Vector sum, Vector a, Vector b) {
        const int16x8_t first = vreinterpretq_s16_s32(a.low), second = vreinterpretq_s16_s32(a.high);
        const int16x8_t first_weight = vreinterpretq_s16_s32(b.low), second_weight = vreinterpretq_s16_s32(b.high);
        sum.low = vmlal_s16(sum.low, vget_low_s16(first), vget_low_s16(first_weight));
        sum.high = vmlal_high_s16(sum.high, first, first_weight);
        sum.low = vmlal_s16(sum.low, vget_low_s16(second), vget_low_s16(second_weight));
        sum.high = vmlal_high_s16(sum.high, second, second_weight);
        return sum;
    }
    static Vector shift_right(Vector v, const int32_t* by) {
        return {vshlq_s32(v.low, vnegq_s32(vld1q_s32(by))), vshlq_s32(v.high, vnegq_s32(vld1q_s32(by + 4)))};
    }
    static Vector leak(Vector v) { return {leak(v.low), leak(v.high)}; }
    static Vector where_positive(Vector v, const int16_t* gate) {
        const Vector values = load_wide(gate);
        return {vandq_s32(v.low, vreinterpretq_s32_u32(vcgtzq_s32(values.low))),
                vandq_s32(v.high, vreinterpretq_s32_u32(vcgtzq_s32(values.high)))};
    }
    static Vector clamp(Vector v, const int32_t* low, const int32_t* high) {
        return {vmaxq_s32(vminq_s32(v.low, vld1q_s32(high)), vld1q_s32(low)),
                vmaxq_s32(vminq_s32(v.high, vld1q_s32(high + 4)), vld1q_s32(low + 4))};
    }
    static void store_narrow(int16_t* to, Vector v) {
        vst1q_s16(to, vcombine_s16(vmovn_s32(v.low), vmovn_s32(v.high)));
    }

    using Values = int16x8_t;
    static constexpr int kValues = 8;

    static Values load_values(const int16_t* from) { return vld1q_s16(from); }
    static void store_values(int16_t* to, Values v) { vst1q_s16(to, v); }
    static Values add_values(Values a, Values b) { return vaddq_s16(a, b); }
    static Values sub_values(Values a, Values b) { return vsubq_s16(a, b); }
    static Values least(Values a, Values b) { return vminq_s16(a, b); }
    static Values high_part(Values v) { return vshrq_n_s16(v, 2); }
    static Values low_part(Values v) { return vandq_s16(v, vdupq_n_s16(3)); }
    static Values most(Values a, Values b) { return vmaxq_s16(a, b); }

  private:
    static int32x4_t leak(int32x4_t v) {
        const int32x4_t leaked = vshrq_n_s32(vaddq_s32(v, vdupq_n_s32(1 << (kLeakBits - 1))), kLeakBits);
        return vbslq_s32(vcltzq_s32(v), leaked, v);
    }
};

}  // namespace

const Dots kNeonDots = dots_of<Neon>("neon");

}  // namespace basic
