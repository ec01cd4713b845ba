// The reference: any processor.
#include "dots_blocks.hpp"
#include "dots_list.hpp"

namespace basic {
namespace {

struct Scalar {
    // Sums wrap, as those of vector instructions do.
    struct Vector {
        uint32_t value;
    };
    static constexpr int kLanes = 1, kVectors = 4, kPositions = 2;

    static Vector load(const int32_t* from) { return {static_cast<uint32_t>(*from)}; }
    static void store(int32_t* to, Vector v) { *to = static_cast<int32_t>(v.value); }
    static Vector load_pairs(const int16_t* from) { return repeat_pair(from); }
    static Vector repeat_pair(const int16_t* from) {
        return {static_cast<uint16_t>(from[0]) | static_cast<uint32_t>(static_cast<uint16_t>(from[1])) << 16};
    }
    static Vector load_wide(const int16_t* from) { return {static_cast<uint32_t>(int32_t{*from})}; }
    static Vector add(Vector a, Vector b) { return {a.value + b.value}; }
    static Vector sub(Vector a, Vector b) { return {a.value - b.value}; }
    static Vector shift_left(Vector v, const int32_t* by) { return {v.value << *by}; }
    static Vector dot(Vector sum, Vector a, Vector b) {
        return {sum.value + static_cast<uint32_t>(low(a) * low(b)) + static_cast<uint32_t>(high(a) * high(b))};
    }
    static Vector shift_right(Vector v, const int32_t* by) {
        return {static_cast<uint32_t>(static_cast<int32_t>(v.value) >> *by)};
    }
    static Vector leak(Vector v) {
        const auto value = static_cast<int32_t>(v.value);
        return {static_cast<uint32_t>(value < 0 ? (value + (1 << (kLeakBits - 1))) >> kLeakBits : value)};
    }
    static Vector where_positive(Vector v, const int16_t* gate) { return {*gate > 0 ? v.value : 0}; }
    static Vector clamp(Vector v, const int32_t* low, const int32_t* high) {
        const auto value = static_cast<int32_t>(v.value);
        const int32_t below = value < *high ? value : *high;
        return {static_cast<uint32_t>(below > *low ? below : *low)};
    }
    static void store_narrow(int16_t* to, Vector v) { *to = static_cast<int16_t>(static_cast<int32_t>(v.value)); }

    using Values = int16_t;
    static constexpr int kValues = 1;

    static Values load_values(const int16_t* from) { return *from; }
    static void store_values(int16_t* to, Values v) { *to = v; }
    static Values add_values(Values a, Values b) { return static_cast<Values>(a + b); }
    static Values sub_values(Values a, Values b) { return static_cast<Values>(a - b); }
    static Values least(Values a, Values b) { return a < b ? a : b; }
    static Values high_part(Values v) { return static_cast<Values>(v >> 2); }
    static Values low_part(Values v) { return static_cast<Values>(v & 3); }
    static Values most(Values a, Values b) { return a > b ? a : b; }

  private:
    static int32_t low(Vector v) { return static_cast<int16_t>(v.value & 0xffff); }
    static int32_t high(Vector v) { return static_cast<int16_t>(v.value >> 16); }
};

}  // namespace

const Dots kScalarDots = dots_of<Scalar>("scalar");

}  // namespace basic
