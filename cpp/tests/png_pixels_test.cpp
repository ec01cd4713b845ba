// Tests of PNG's pixels: streams are read back by the plainest inflater, and filters undone by their
// definition, in sanitizer builds too.
#include "basic/png_pixels.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <functional>
#include <queue>
#include <random>
#include <stdexcept>
#include <utility>
#include <vector>

#include "check.hpp"
#include "deflate.hpp"

namespace {

using Bytes = std::vector<uint8_t>;

// RFC 1951, a bit at a time.
class Inflater {
  public:
    explicit Inflater(const Bytes& from) : from_(from) {}

    // Every block up to the last.
    Bytes all() {
        for (bool last = false; !last;) {
            last = bits(1);
            const unsigned kind = bits(2);
            CHECK(kind == 0 || kind == 2);
            kind == 0 ? read_stored() : read_coded();
        }
        return to_;
    }

    size_t used() const { return (at_ + 7) / 8; }

  private:
    // By counting, as RFC 1951, 3.2.2 defines codes.
    class Code {
      public:
        explicit Code(const Bytes& lengths) : symbols_(16) {
            for (size_t symbol = 0; symbol < lengths.size(); ++symbol)
                symbols_[lengths[symbol]].push_back(symbol);
        }

        size_t read(Inflater& from) const {
            size_t code = 0, first = 0;
            for (unsigned length = 1; length <= 15; ++length) {
                code = code << 1 | from.bits(1);
                if (code - first < symbols_[length].size()) return symbols_[length][code - first];
                first = (first + symbols_[length].size()) << 1;
            }
            CHECK(!"a code");
            return 0;
        }

      private:
        std::vector<std::vector<size_t>> symbols_;  // of each length
    };

    unsigned bits(unsigned count) {
        unsigned value = 0;
        for (unsigned k = 0; k < count; ++k, ++at_) {
            CHECK(at_ / 8 < from_.size());
            value |= static_cast<unsigned>(from_[at_ / 8] >> at_ % 8 & 1) << k;
        }
        return value;
    }

    void read_stored() {
        at_ = (at_ + 7) / 8 * 8;
        const unsigned size = bits(16);
        CHECK(bits(16) == (size ^ 0xFFFF));
        for (unsigned k = 0; k < size; ++k) to_.push_back(static_cast<uint8_t>(bits(8)));
    }

    void read_coded() {
        const unsigned literals = bits(5) + 257, distances = bits(5) + 1, written = bits(4) + 4;
        constexpr unsigned kOrder[] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
        Bytes of_lengths(19), lengths;
        for (unsigned k = 0; k < written; ++k) of_lengths[kOrder[k]] = static_cast<uint8_t>(bits(3));
        const Code length_code(of_lengths);
        while (lengths.size() < literals + distances) {
            const size_t symbol = length_code.read(*this);
            if (symbol < 16) {
                lengths.push_back(static_cast<uint8_t>(symbol));
                continue;
            }
            const uint8_t repeated = symbol == 16 ? lengths.back() : uint8_t{0};
            const unsigned count = symbol == 16 ? 3 + bits(2) : symbol == 17 ? 3 + bits(3) : 11 + bits(7);
            lengths.insert(lengths.end(), count, repeated);
        }
        CHECK(lengths.size() == literals + distances);
        const Code code(Bytes(lengths.begin(), lengths.begin() + literals)),
            distance(Bytes(lengths.begin() + literals, lengths.end()));
        for (;;) {
            const size_t symbol = code.read(*this);
            if (symbol == 256) return;
            if (symbol < 256) {
                to_.push_back(static_cast<uint8_t>(symbol));
                continue;
            }
            const auto step = static_cast<unsigned>(symbol - 257);
            const unsigned extra = step < 8 || step == 28 ? 0 : step / 4 - 1;
            const unsigned base = step < 8 ? step + 3 : step == 28 ? 258 : ((4 + step % 4) << extra) + 3;
            const unsigned length = base + bits(extra);
            CHECK(distance.read(*this) == 0 && !to_.empty());
            to_.insert(to_.end(), length, to_.back());
        }
    }

    const Bytes& from_;
    Bytes to_;
    size_t at_ = 0;
};

uint32_t adler32(const Bytes& bytes) {
    uint32_t a = 1, b = 0;
    for (const uint8_t byte : bytes) {
        a = (a + byte) % 65521;
        b = (b + a) % 65521;
    }
    return b << 16 | a;
}

// What the specification predicts a sample from, by the number of the filter.
int predicted(int filter, int left, int above, int corner) {
    const int guess = left + above - corner;
    const int a = std::abs(guess - left), b = std::abs(guess - above), c = std::abs(guess - corner);
    const int paeth = a <= b && a <= c ? left : b <= c ? above : corner;
    return std::array{0, left, above, (left + above) / 2, paeth}[static_cast<size_t>(filter)];
}

// The samples of filtered rows.
Bytes unfiltered(const Bytes& filtered, size_t rows, size_t size, size_t step) {
    CHECK(filtered.size() == rows * (size + 1));
    Bytes samples(rows * size);
    for (size_t y = 0; y < rows; ++y) {
        const uint8_t filter = filtered[y * (size + 1)];
        CHECK(filter <= 4);
        for (size_t x = 0; x < size; ++x) {
            const auto at = [&](size_t row, size_t column) { return int{samples[row * size + column]}; };
            const int left = x < step ? 0 : at(y, x - step), above = y == 0 ? 0 : at(y - 1, x);
            const int corner = x < step || y == 0 ? 0 : at(y - 1, x - step);
            samples[y * size + x] = static_cast<uint8_t>(filtered[y * (size + 1) + 1 + x] +
                                                         predicted(filter, left, above, corner));
        }
    }
    return samples;
}

Bytes stream_of(const basic::PngSamples& samples, size_t threads) {
    basic::PngPixels pixels(samples, threads);
    Bytes stream;
    while (!pixels.done()) {
        const Bytes part = pixels.next();
        CHECK(!part.empty());
        stream.insert(stream.end(), part.begin(), part.end());
    }
    return stream;
}

struct Size {
    size_t rows, columns, channels;
};

using Content = std::function<int(size_t y, size_t x, std::mt19937& random)>;

// Returns the sizes of the stream and of what it holds.
std::pair<size_t, size_t> check_round_trip(const Size& size, const Content& content, size_t gap = 0) {
    std::mt19937 random(7);
    const size_t bytes = size.columns * size.channels;
    Bytes memory(size.rows * (bytes + gap), 0xEE), wanted;
    for (size_t y = 0; y < size.rows; ++y)
        for (size_t x = 0; x < bytes; ++x) {
            memory[y * (bytes + gap) + x] = static_cast<uint8_t>(content(y, x, random));
            wanted.push_back(memory[y * (bytes + gap) + x]);
        }
    const basic::PngSamples samples{memory.data(), size.rows, size.columns, size.channels,
                                    static_cast<ptrdiff_t>(bytes + gap)};
    const Bytes stream = stream_of(samples, 1);
    for (const size_t threads : {2, 5}) CHECK(stream_of(samples, threads) == stream);
    CHECK(stream[0] == 0x78 && (stream[0] * 256 + stream[1]) % 31 == 0 && (stream[1] & 0x20) == 0);
    const Bytes body(stream.begin() + 2, stream.end() - 4);
    Inflater inflater(body);
    const Bytes filtered = inflater.all();
    CHECK(inflater.used() == body.size());
    uint32_t checksum = 0;
    for (size_t k = stream.size() - 4; k < stream.size(); ++k) checksum = checksum << 8 | stream[k];
    CHECK(checksum == adler32(filtered));
    CHECK(unfiltered(filtered, size.rows, bytes, size.channels) == wanted);
    return {stream.size(), filtered.size()};
}

const Content kNoise = [](size_t, size_t, std::mt19937& random) { return static_cast<int>(random() & 0xFF); };
const Content kFlat = [](size_t, size_t, std::mt19937&) { return 200; };
const Content kSlope = [](size_t y, size_t x, std::mt19937& random) {
    return static_cast<int>(2 * y + x / 3 + random() % 3);
};
const Content kRuns = [](size_t y, size_t x, std::mt19937& random) {
    return random() % 16 == 0 ? static_cast<int>(random() & 0xFF) : static_cast<int>((y / 5 + x / 40) * 50);
};

void test_all_shapes() {
    for (const size_t channels : {1, 2, 3, 4})
        for (const auto& [rows, columns] :
             {std::pair<size_t, size_t>{1, 1}, {1, 300}, {300, 1}, {2, 3}, {37, 41}})
            for (const Content& content : {kNoise, kFlat, kSlope, kRuns})
                for (const size_t gap : {0, 5}) check_round_trip({rows, columns, channels}, content, gap);
}

void test_stripes_and_parts() {
    for (const Content& content : {kNoise, kSlope, kRuns}) {
        check_round_trip({400, 500, 3}, content);   // several stripes
        check_round_trip({800, 501, 3}, content);   // two parts
        check_round_trip({3, 40'000, 4}, content);  // rows longer than a stripe
    }
}

void test_sizes() {
    const auto [noise, all] = check_round_trip({200, 200, 3}, kNoise);
    CHECK(noise <= all + 64);  // no block is larger than what it holds by more than its head
    CHECK(check_round_trip({200, 200, 3}, kFlat).first < 600);
    CHECK(check_round_trip({200, 200, 3}, kSlope).first < all / 3);
}

void test_refusals() {
    const Bytes memory(100);
    const auto make = [&](size_t rows, size_t columns, size_t channels, size_t threads) {
        return basic::PngPixels({memory.data(), rows, columns, channels, 10}, threads);
    };
    CHECK_THROWS(make(1, 1, 0, 1), std::invalid_argument);
    CHECK_THROWS(make(1, 1, 5, 1), std::invalid_argument);
    CHECK_THROWS(make(0, 1, 1, 1), std::invalid_argument);
    CHECK_THROWS(make(1, 0, 1, 1), std::invalid_argument);
    CHECK_THROWS(make(1, 1, 1, 0), std::invalid_argument);
}

// --- Deflate
// ------------------------------------------------------------------------------------------------

void check_block(const Bytes& bytes) {
    const Bytes open = basic::deflate_runs(bytes, false), last = basic::deflate_runs({}, true);
    Bytes both = open;
    both.insert(both.end(), last.begin(), last.end());
    Inflater inflater(both);
    CHECK(inflater.all() == bytes && inflater.used() == both.size());
    const Bytes alone = basic::deflate_runs(bytes, true);
    Inflater other(alone);
    CHECK(other.all() == bytes && other.used() == alone.size());
}

void test_runs_of_all_lengths() {
    for (size_t length = 0; length < 800; ++length) {
        Bytes bytes(3, 7);
        for (uint8_t k = 0; k < 40; ++k) bytes.push_back(k);
        bytes.insert(bytes.end(), length, 0);
        bytes.push_back(1);
        bytes.insert(bytes.end(), length, 9);
        check_block(bytes);
        check_block(Bytes(length, 5));
    }
}

void test_noise_is_stored() {
    std::mt19937 random(3);
    for (const size_t count : {1, 65535, 65536, 200'000}) {
        Bytes bytes(count);
        for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
        check_block(bytes);
        CHECK(basic::deflate_runs(bytes, true).size() == count + 5 * ((count + 65534) / 65535));
    }
}

// The bits of a Huffman code without a limit: each merge of the two rarest costs their sum.
uint64_t least_bits(const std::vector<uint32_t>& counts) {
    std::priority_queue<uint64_t, std::vector<uint64_t>, std::greater<>> queue;
    for (const uint32_t count : counts)
        if (count > 0) queue.push(count);
    uint64_t bits = 0;
    while (queue.size() > 1) {
        uint64_t sum = queue.top();
        queue.pop();
        sum += queue.top();
        queue.pop();
        queue.push(sum);
        bits += sum;
    }
    return bits;
}

uint64_t bits_of(const std::vector<uint32_t>& counts, const Bytes& lengths) {
    uint64_t bits = 0;
    for (size_t k = 0; k < counts.size(); ++k) bits += uint64_t{counts[k]} * lengths[k];
    return bits;
}

// The least bits of any code with lengths up to `most`, by trying all; symbols are in the order of their
// counts.
uint64_t tried_bits(const std::vector<uint32_t>& counts, unsigned most, size_t at, unsigned longest,
                    uint64_t room) {
    if (at == counts.size()) return 0;
    uint64_t best = UINT64_MAX;
    for (unsigned length = 1; length <= longest; ++length) {
        const uint64_t share = uint64_t{1} << (most - length);
        if (share > room) continue;
        const uint64_t rest = tried_bits(counts, most, at + 1, length, room - share);
        if (rest != UINT64_MAX) best = std::min(best, rest + uint64_t{counts[at]} * length);
    }
    return best;
}

void test_codes_are_the_best() {
    std::mt19937 random(5);
    for (int round = 0; round < 300; ++round) {
        std::vector<uint32_t> counts(1 + random() % 286);
        for (uint32_t& count : counts)
            count = random() % 3 == 0 ? 0 : 1 + static_cast<uint32_t>(random()) % (1u << random() % 20);
        counts[0] = 1;
        const auto used =
            std::count_if(counts.begin(), counts.end(), [](uint32_t count) { return count > 0; });
        const Bytes free = basic::code_lengths(counts, 60), bounded = basic::code_lengths(counts, 12);
        CHECK(bits_of(counts, free) == (used == 1 ? counts[0] : least_bits(counts)));
        CHECK(bits_of(counts, bounded) >= bits_of(counts, free));
        for (size_t k = 0; k < counts.size(); ++k)
            CHECK((bounded[k] > 0) == (counts[k] > 0) && bounded[k] <= 12);
    }
    for (int round = 0; round < 200; ++round) {  // counts that want long codes
        std::vector<uint32_t> counts(2 + random() % 6);
        for (uint32_t& count : counts) count = 1 + static_cast<uint32_t>(random()) % (1u << random() % 12);
        std::sort(counts.begin(), counts.end());
        const Bytes lengths = basic::code_lengths(counts, 3);
        CHECK(bits_of(counts, lengths) == tried_bits(counts, 3, 0, 3, 8));
    }
    CHECK(basic::code_lengths(std::vector<uint32_t>{0, 0}, 7) == Bytes({0, 0}));
}

}  // namespace

int main() {
    test_all_shapes();
    test_stripes_and_parts();
    test_sizes();
    test_refusals();
    test_runs_of_all_lengths();
    test_noise_is_stored();
    test_codes_are_the_best();
}
