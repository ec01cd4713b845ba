// NEON (64-bit ARM): 4 lanes to a vector, up to eight independent vectors at a time. Words move between
// stream and lanes by byte shuffles, looked up by the mask of the lanes that give or take one.
#include <arm_neon.h>

#include "kernel_list.hpp"
#include "kernels_scalar.hpp"

namespace basic {
namespace {

constexpr int kWidth = 4;
constexpr uint8_t kZero = 0xff;  // a shuffle's index for a zero byte

// By mask of 4 lanes, lowest bit first.
struct Shuffles {
    alignas(8) uint8_t give[16][8];    // words of the set lanes, moved to the end
    alignas(16) uint8_t take[16][16];  // the next word for each set lane, as 32 bits
    uint8_t count[16];
};

constexpr Shuffles make_shuffles() {
    Shuffles shuffles{};
    for (int mask = 0; mask < 16; ++mask) {
        int count = 0;
        for (int lane = 0; lane < 4; ++lane) count += mask >> lane & 1;
        shuffles.count[mask] = static_cast<uint8_t>(count);
        int before = 0;
        for (int lane = 0; lane < 4; ++lane) {
            const bool is_set = mask >> lane & 1;
            for (int byte = 0; byte < 4; ++byte)
                shuffles.take[mask][4 * lane + byte] =
                    is_set && byte < 2 ? static_cast<uint8_t>(2 * before + byte) : kZero;
            if (!is_set) continue;
            for (int byte = 0; byte < 2; ++byte)
                shuffles.give[mask][2 * (4 - count + before) + byte] = static_cast<uint8_t>(2 * lane + byte);
            ++before;
        }
    }
    return shuffles;
}

constexpr Shuffles kShuffles = make_shuffles();

inline unsigned mask_of(uint32x4_t lanes) {
    const uint32x4_t bits = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(lanes, bits));
}

// One symbol on each of 4 lanes.
inline uint32x4_t encode_vector(uint32x4_t state, const PackedEntry* packed, const uint16_t* at,
                                uint16_t* words, size_t& next) {
    // {reciprocal, freq | start << 16} of each lane, then each of both for all lanes
    const uint32x4_t low = vcombine_u32(vld1_u32(reinterpret_cast<const uint32_t*>(packed + at[0])),
                                        vld1_u32(reinterpret_cast<const uint32_t*>(packed + at[1])));
    const uint32x4_t high = vcombine_u32(vld1_u32(reinterpret_cast<const uint32_t*>(packed + at[2])),
                                         vld1_u32(reinterpret_cast<const uint32_t*>(packed + at[3])));
    const uint32x4_t reciprocal = vuzp1q_u32(low, high), both = vuzp2q_u32(low, high);
    const uint32x4_t freq = vandq_u32(both, vdupq_n_u32(0xffff)), start = vshrq_n_u32(both, 16);

    const uint32x4_t gives = vcgeq_u32(vshrq_n_u32(state, 20), freq);
    const unsigned mask = mask_of(gives);
    const uint8x8_t given = vreinterpret_u8_u16(vmovn_u32(state));
    vst1_u16(words + static_cast<ptrdiff_t>(next) - kWidth,
             vreinterpret_u16_u8(vtbl1_u8(given, vld1_u8(kShuffles.give[mask]))));
    next -= kShuffles.count[mask];
    state = vbslq_u32(gives, vshrq_n_u32(state, 16), state);

    // floor(state / freq) or one less (see PackedEntry), and one correction
    const uint64x2_t low_product = vmull_u32(vget_low_u32(state), vget_low_u32(reciprocal));
    const uint64x2_t high_product = vmull_high_u32(state, reciprocal);
    const uint32x4_t quotient =
        vuzp2q_u32(vreinterpretq_u32_u64(low_product), vreinterpretq_u32_u64(high_product));
    const uint32x4_t remainder = vmlsq_u32(state, quotient, freq);
    const uint32x4_t less = vcgeq_u32(remainder, freq);
    const uint32x4_t moved = vaddq_u32(vaddq_u32(vshlq_n_u32(quotient, kProbBits), start), remainder);
    return vaddq_u32(moved, vandq_u32(less, vsubq_u32(vdupq_n_u32(kProbTotal), freq)));
}

template <int kVectors>
size_t encode_vectors(const PackedEntry* packed, const uint16_t* entries, size_t rounds, uint32_t* states,
                      uint16_t* words, size_t next) {
    uint32x4_t state[kVectors];
    for (int v = 0; v < kVectors; ++v) state[v] = vld1q_u32(states + kWidth * v);
    while (rounds-- > 0) {
        const uint16_t* at = entries + rounds * kWidth * kVectors;
#pragma GCC unroll 8
        for (int v = kVectors - 1; v >= 0; --v)
            state[v] = encode_vector(state[v], packed, at + kWidth * v, words, next);
    }
    for (int v = 0; v < kVectors; ++v) vst1q_u32(states + kWidth * v, state[v]);
    return next;
}

size_t encode(const EncodeTables& tables, int lanes, const uint16_t* entries, size_t rounds, uint32_t* states,
              uint16_t* words, size_t next) {
    switch (lanes) {
        case 8:
            return encode_vectors<2>(tables.packed, entries, rounds, states, words, next);
        case 16:
            return encode_vectors<4>(tables.packed, entries, rounds, states, words, next);
        case 32:
            return encode_vectors<8>(tables.packed, entries, rounds, states, words, next);
        case 64:
            return encode_vectors<16>(tables.packed, entries, rounds, states, words, next);
        default:
            return encode_scalar(tables, lanes, entries, rounds, states, words, next);
    }
}

inline uint32x4_t load_slots(const uint32_t* slots, const uint32_t* at) {
    uint32x4_t four = vdupq_n_u32(slots[at[0]]);
    four = vld1q_lane_u32(slots + at[1], four, 1);
    four = vld1q_lane_u32(slots + at[2], four, 2);
    return vld1q_lane_u32(slots + at[3], four, 3);
}

// Codes of 4 lanes.
inline void store_codes(uint8_t* codes, uint32x4_t slot) {
    const uint16x4_t halves = vmovn_u32(slot);
    const uint8x8_t bytes = vmovn_u16(vcombine_u16(halves, halves));
    vst1_lane_u32(reinterpret_cast<uint32_t*>(codes), vreinterpret_u32_u8(bytes), 0);
}

template <int kVectors>
const uint8_t* decode_vectors(const uint32_t* slots, const uint8_t* indexes, uint8_t* codes, size_t rounds,
                              uint32_t* states, const uint8_t* word, const uint8_t* words_end) {
    const uint32x4_t twelve_bits = vdupq_n_u32(kProbTotal - 1);
    uint32x4_t state[kVectors];
    for (int v = 0; v < kVectors; ++v) state[v] = vld1q_u32(states + kWidth * v);
    for (; rounds > 0 && word <= words_end; --rounds) {
        alignas(16) uint32_t at[kWidth * kVectors];
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; v += 2) {
            const uint16x8_t index = vmovl_u8(vld1_u8(indexes + kWidth * v));
            vst1q_u32(at + kWidth * v, vorrq_u32(vandq_u32(state[v], twelve_bits),
                                                 vshll_n_u16(vget_low_u16(index), kProbBits)));
            vst1q_u32(at + kWidth * (v + 1), vorrq_u32(vandq_u32(state[v + 1], twelve_bits),
                                                       vshll_n_u16(vget_high_u16(index), kProbBits)));
        }
#pragma GCC unroll 16
        for (int v = 0; v < kVectors; ++v) {
            const uint32x4_t slot = load_slots(slots, at + kWidth * v);
            store_codes(codes + kWidth * v, slot);
            const uint32x4_t rank = vandq_u32(vshrq_n_u32(slot, 8), twelve_bits);
            const uint32x4_t moved = vmlaq_u32(rank, vshrq_n_u32(slot, 20), vshrq_n_u32(state[v], kProbBits));
            const uint32x4_t low = vcltq_u32(moved, vdupq_n_u32(kStateLow));
            const unsigned mask = mask_of(low);
            const uint8x16_t words = vcombine_u8(vld1_u8(word), vdup_n_u8(0));
            const uint8x16_t taken = vqtbl1q_u8(words, vld1q_u8(kShuffles.take[mask]));
            state[v] = vorrq_u32(vbslq_u32(low, vshlq_n_u32(moved, 16), moved), vreinterpretq_u32_u8(taken));
            word += 2 * size_t{kShuffles.count[mask]};
        }
        indexes += kWidth * kVectors;
        codes += kWidth * kVectors;
    }
    for (int v = 0; v < kVectors; ++v) vst1q_u32(states + kWidth * v, state[v]);
    return word;
}

const uint8_t* decode(const uint32_t* slots, int lanes, const uint8_t* indexes, uint8_t* codes, size_t rounds,
                      uint32_t* states, const uint8_t* word, const uint8_t* words_end) {
    switch (lanes) {
        case 8:
            return decode_vectors<2>(slots, indexes, codes, rounds, states, word, words_end);
        case 16:
            return decode_vectors<4>(slots, indexes, codes, rounds, states, word, words_end);
        case 32:
            return decode_vectors<8>(slots, indexes, codes, rounds, states, word, words_end);
        case 64:
            return decode_vectors<16>(slots, indexes, codes, rounds, states, word, words_end);
        default:
            return decode_scalar(slots, lanes, indexes, codes, rounds, states, word, words_end);
    }
}

}  // namespace

const Kernels kNeonKernels = {
    "neon", map_all_scalar<int16_t>,   map_all_scalar<int32_t>,   encode,
    decode, unmap_all_scalar<int16_t>, unmap_all_scalar<int32_t>,
};

}  // namespace basic
