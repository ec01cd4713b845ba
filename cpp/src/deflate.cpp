#include "deflate.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

namespace basic {
namespace {

constexpr size_t kEnd = 256, kSymbols = 286;  // literals, the end of a block, lengths
constexpr unsigned kMostBits = 14;            // of a literal or length: four of these can be added at once
constexpr size_t kLeastRun = 5, kMostRun = 258, kLeastLength = 3;
constexpr size_t kStored = 65535, kStoredHead = 5;  // the most bytes of a block without a code, and its head

// So many bytes as they are, and then the last one again so many times.
struct Span {
    uint32_t literals, repeats;
};

struct Length {
    size_t symbol;
    unsigned extra_bits, extra;
};

// RFC 1951, 3.2.5: eight lengths one by one, then four symbols for each number of extra bits.
Length length_of(size_t repeats) {
    if (repeats == kMostRun) return {285, 0, 0};
    const auto from = static_cast<unsigned>(repeats - kLeastLength);
    if (from < 8) return {257 + from, 0, 0};
    const auto extra_bits = static_cast<unsigned>(std::bit_width(from)) - 3;
    return {257 + 4 * extra_bits + (from >> extra_bits), extra_bits, from & ((1u << extra_bits) - 1)};
}

// Where four bytes are each what stands before them, at or behind `at`, in steps of four; the end if nowhere.
size_t find_four(std::span<const uint8_t> bytes, size_t at) {
    for (; at + 4 <= bytes.size(); at += 4)
        if (std::memcmp(&bytes[at], &bytes[at - 1], 4) == 0) return at;
    return bytes.size();
}

std::vector<Span> spans_of(std::span<const uint8_t> bytes) {
    std::vector<Span> spans;
    size_t start = 0, at = 1;
    while ((at = find_four(bytes, at)) < bytes.size()) {
        size_t first = at, end = at + 4;
        while (first > start + 1 && bytes[first - 1] == bytes[first - 2]) --first;
        while (end < bytes.size() && bytes[end] == bytes[end - 1]) ++end;
        for (size_t literals = first - start; end - first >= kLeastRun; literals = 0) {
            const size_t repeats = std::min(end - first, kMostRun);
            spans.push_back({static_cast<uint32_t>(literals), static_cast<uint32_t>(repeats)});
            start = first += repeats;
        }
        at = std::max(end, start + 1);
    }
    spans.push_back({static_cast<uint32_t>(bytes.size() - start), 0});
    return spans;
}

using Counts = std::array<uint32_t, kSymbols>;

Counts count(std::span<const uint8_t> bytes, const std::vector<Span>& spans) {
    std::array<std::array<uint32_t, 256>, 4> parts{};  // equal neighbours would wait for each other
    Counts counts{};
    const uint8_t* at = bytes.data();
    for (const Span& span : spans) {
        const uint8_t* end = at + span.literals;
        for (; at + 4 <= end; at += 4)
            for (size_t k = 0; k < 4; ++k) ++parts[k][at[k]];
        for (; at < end; ++at) ++parts[0][*at];
        at += span.repeats;
        if (span.repeats > 0) ++counts[length_of(span.repeats).symbol];
    }
    for (size_t value = 0; value < 256; ++value)
        for (const auto& part : parts) counts[value] += part[value];
    counts[kEnd] = 1;
    return counts;
}

struct Code {
    uint16_t bits, length;
};

// Canonical codes (RFC 1951, 3.2.2), the first bit lowest.
std::vector<Code> codes_of(std::span<const uint8_t> lengths) {
    std::array<uint32_t, 17> next{};
    for (const uint8_t length : lengths) ++next[length + 1u];
    next[0] = next[1] = 0;  // symbols that never occur have no code
    for (size_t length = 2; length < next.size(); ++length)
        next[length] = (next[length] + next[length - 1]) << 1;
    std::vector<Code> codes;
    for (const uint8_t length : lengths) {
        uint32_t reversed = 0;
        if (length > 0)
            for (uint32_t bit = 0, code = next[length]++; bit < length; ++bit)
                reversed |= (code >> bit & 1) << (length - 1 - bit);
        codes.push_back({static_cast<uint16_t>(reversed), length});
    }
    return codes;
}

// Writes bits, the lowest first, to memory that has room for eight bytes more.
class Bits {
  public:
    explicit Bits(uint8_t* to) : to_(to) {}

    // Up to 56 bits may be added before the next `store()`.
    void add(uint32_t bits, unsigned count) {
        bits_ |= uint64_t{bits} << count_;
        count_ += count;
    }
    void add(const Code& code) { add(code.bits, code.length); }

    void store() {
        for (unsigned k = 0; k < 8; ++k) to_[k] = static_cast<uint8_t>(bits_ >> 8 * k);
        to_ += count_ / 8;
        bits_ >>= count_ / 8 * 8;
        count_ %= 8;
    }

    // To the end of the byte, with zeros.
    uint8_t* finish() {
        count_ = (count_ + 7) / 8 * 8;
        store();
        return to_;
    }

  private:
    uint8_t* to_;
    uint64_t bits_ = 0;
    unsigned count_ = 0;
};

// Code lengths as RFC 1951, 3.2.7 writes them: 16 repeats the last one, 17 and 18 are zeros.
struct LengthSymbol {
    uint8_t symbol, extra_bits, extra;
};

std::vector<LengthSymbol> in_runs(std::span<const uint8_t> lengths) {
    std::vector<LengthSymbol> found;
    for (size_t at = 0; at < lengths.size();) {
        const uint8_t length = lengths[at];
        size_t count = 1;
        while (at + count < lengths.size() && lengths[at + count] == length) ++count;
        if (length == 0 && count >= 11) {
            count = std::min<size_t>(count, 138);
            found.push_back({18, 7, static_cast<uint8_t>(count - 11)});
        } else if (length == 0 && count >= 3) {
            found.push_back({17, 3, static_cast<uint8_t>(count - 3)});
        } else if (count >= 4) {
            count = std::min<size_t>(count, 7);
            found.push_back({length, 0, 0});
            found.push_back({16, 2, static_cast<uint8_t>(count - 4)});
        } else {
            count = 1;
            found.push_back({length, 0, 0});
        }
        at += count;
    }
    return found;
}

// The head of a block with codes of its own, and these codes.
class Head {
  public:
    explicit Head(const Counts& counts) {
        std::vector<uint8_t> lengths = code_lengths(counts, kMostBits);
        codes_ = codes_of(lengths);
        while (lengths.back() == 0) lengths.pop_back();  // the end of the block has a code
        literals_ = lengths.size();
        lengths.push_back(1);  // of the only distance, 1
        symbols_ = in_runs(lengths);
        std::array<uint32_t, 19> used{};
        for (const LengthSymbol& each : symbols_) ++used[each.symbol];
        symbol_lengths_ = code_lengths(used, 7);
        written_ = kOrder.size();
        while (written_ > 4 && symbol_lengths_[kOrder[written_ - 1]] == 0) --written_;
        bits_ = 3 + 5 + 5 + 4 + 3 * written_;
        for (const LengthSymbol& each : symbols_)
            bits_ += symbol_lengths_[each.symbol] + size_t{each.extra_bits};
    }

    size_t bits() const { return bits_; }
    const std::vector<Code>& codes() const { return codes_; }

    void write(Bits& to, bool last) const {
        to.add(last, 1);
        to.add(2, 2);
        to.add(static_cast<uint32_t>(literals_ - 257), 5);
        to.add(0, 5);
        to.add(static_cast<uint32_t>(written_ - 4), 4);
        to.store();
        for (size_t k = 0; k < written_; ++k) {
            to.add(symbol_lengths_[kOrder[k]], 3);
            to.store();
        }
        const std::vector<Code> codes = codes_of(symbol_lengths_);
        for (const LengthSymbol& each : symbols_) {
            to.add(codes[each.symbol]);
            to.add(each.extra, each.extra_bits);
            to.store();
        }
    }

  private:
    static constexpr std::array<uint8_t, 19> kOrder = {16, 17, 18, 0, 8,  7, 9,  6, 10, 5,
                                                       11, 4,  12, 3, 13, 2, 14, 1, 15};

    std::vector<Code> codes_;
    std::vector<LengthSymbol> symbols_;
    std::vector<uint8_t> symbol_lengths_;
    size_t literals_, written_, bits_;
};

size_t content_bits(const Counts& counts, const std::vector<Code>& codes) {
    size_t bits = 0;
    for (size_t symbol = 0; symbol < kSymbols; ++symbol) {
        const unsigned extra = symbol < 265 || symbol == 285 ? 0 : static_cast<unsigned>(symbol - 261) / 4;
        bits += size_t{counts[symbol]} *
                (codes[symbol].length + extra + (symbol > kEnd));  // the distance is a bit
    }
    return bits;
}

void write_content(std::span<const uint8_t> bytes, const std::vector<Span>& spans,
                   const std::vector<Code>& codes, Bits& to) {
    const uint8_t* at = bytes.data();
    Bits bits = to;  // in registers
    for (const Span& span : spans) {
        const uint8_t* end = at + span.literals;
        for (; at + 4 <= end; at += 4) {
            for (size_t k = 0; k < 4; ++k) bits.add(codes[at[k]]);
            bits.store();
        }
        for (; at < end; ++at) bits.add(codes[*at]);
        bits.store();
        if (span.repeats == 0) continue;
        const Length length = length_of(span.repeats);
        bits.add(codes[length.symbol]);
        bits.add(length.extra, length.extra_bits);
        bits.add(0, 1);
        bits.store();
        at += span.repeats;
    }
    bits.add(codes[kEnd]);
    bits.store();
    to = bits;
}

std::vector<uint8_t> stored(std::span<const uint8_t> bytes, bool last) {
    std::vector<uint8_t> blocks;
    do {
        const std::span<const uint8_t> part = bytes.first(std::min(bytes.size(), kStored));
        bytes = bytes.subspan(part.size());
        const auto size = static_cast<uint16_t>(part.size());
        blocks.push_back(last && bytes.empty());
        for (const auto value : {size, static_cast<uint16_t>(~size)})
            for (const int shift : {0, 8}) blocks.push_back(static_cast<uint8_t>(value >> shift));
        blocks.insert(blocks.end(), part.begin(), part.end());
    } while (!bytes.empty());
    return blocks;
}

}  // namespace

std::vector<uint8_t> code_lengths(std::span<const uint32_t> counts, unsigned most) {
    std::vector<uint32_t> symbols;
    for (uint32_t symbol = 0; symbol < counts.size(); ++symbol)
        if (counts[symbol] > 0) symbols.push_back(symbol);
    std::vector<uint8_t> lengths(counts.size());
    if (symbols.size() == 1) lengths[symbols[0]] = 1;
    if (symbols.size() < 2) return lengths;
    std::stable_sort(symbols.begin(), symbols.end(),
                     [&](uint32_t a, uint32_t b) { return counts[a] < counts[b]; });

    // Of each level, the deepest first: symbols and pairs of the level below, the rarest first.
    std::vector<std::vector<bool>> is_symbol(most);
    std::vector<uint64_t> pairs;
    for (auto& level : is_symbol) {
        std::vector<uint64_t> merged;
        auto pair = pairs.begin();
        for (const uint32_t symbol : symbols) {
            for (; pair != pairs.end() && *pair < counts[symbol]; ++pair) {
                merged.push_back(*pair);
                level.push_back(false);
            }
            merged.push_back(counts[symbol]);
            level.push_back(true);
        }
        merged.insert(merged.end(), pair, pairs.end());
        level.resize(merged.size(), false);
        pairs.clear();
        for (size_t k = 0; k + 1 < merged.size(); k += 2) pairs.push_back(merged[k] + merged[k + 1]);
    }
    // From the top: a code of n symbols takes the rarest 2n - 2, and what the pairs among them are made of.
    size_t taken = 2 * symbols.size() - 2;
    for (auto level = is_symbol.rbegin(); level != is_symbol.rend(); ++level) {
        const auto found = static_cast<size_t>(
            std::count(level->begin(), level->begin() + static_cast<ptrdiff_t>(taken), true));
        for (size_t rank = 0; rank < found; ++rank) ++lengths[symbols[rank]];
        taken = 2 * (taken - found);
    }
    return lengths;
}

std::vector<uint8_t> deflate_runs(std::span<const uint8_t> bytes, bool last) {
    const std::vector<Span> spans = spans_of(bytes);
    const Counts counts = count(bytes, spans);
    const Head head(counts);
    const size_t size = (head.bits() + content_bits(counts, head.codes()) + 7) / 8;
    if (size + (last ? 0 : kStoredHead) >= bytes.size() + kStoredHead * (bytes.size() / kStored + 1))
        return stored(bytes, last);
    std::vector<uint8_t> block(size + kStoredHead + 8);  // which `Bits` may write behind the end
    Bits bits(block.data());
    head.write(bits, last);
    write_content(bytes, spans, head.codes(), bits);
    if (!last)
        bits.add(0, 3);  // what follows begins with a byte, as it does behind an empty block without a code
    uint8_t* end = bits.finish();
    if (!last)
        for (const uint8_t byte : {0, 0, 0xFF, 0xFF}) *end++ = byte;
    block.resize(static_cast<size_t>(end - block.data()));
    return block;
}

}  // namespace basic
