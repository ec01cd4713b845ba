// libFuzzer target: a .basic file from the input's bytes, as far as it can be read without its model. The first byte
// says whether checksums are set right first, behind which most of the input would never come.
#include <cstdint>
#include <vector>

#include "basic/checksum.hpp"
#include "container.hpp"

namespace {

using namespace basic::codec;

// The signature, and the checksum of each part that is there, as far as it can be told.
std::vector<uint8_t> mended(std::vector<uint8_t> file) {
    constexpr uint8_t kSignature[] = {0x89, 'B', 'S', 'C', '\r', '\n', 0x1A, '\n'};
    std::copy(std::begin(kSignature), std::end(kSignature), file.begin());
    const auto put_crc = [&](size_t first, size_t end) {
        if (end + 4 > file.size()) return false;
        const uint32_t crc = basic::crc32({file.data() + first, end - first});
        for (size_t k = 0; k < 4; ++k) file[end + k] = static_cast<uint8_t>(crc >> 8 * k);
        return true;
    };
    try {
        Reader reader(file);
        reader.take(8, "");
        reader.take(1, "");
        reader.text("");
        reader.take(4, "");
        reader.varint("");
        reader.varint("");
        reader.take(7, "");
        if (!put_crc(8, reader.position())) return file;
        reader.take(4, "");
        while (reader.left() > 0) {
            const size_t start = reader.position();
            reader.take(4, "");
            reader.take(reader.varint(""), "");
            if (!put_crc(start, reader.position())) return file;
            reader.take(4, "");
        }
    } catch (const Error&) {  // what follows cannot be told
    }
    return file;
}

template <typename Work>
void attempt(const Work& work) {
    try {
        work();
    } catch (const Error&) {
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size < 9) return 0;
    std::vector<uint8_t> file(data + 1, data + size);
    if ((data[0] & 1) != 0) file = mended(std::move(file));
    attempt([&] {
        const Container found = read_container(file, 1 << 16);
        for (const char* type : {"iccp", "exif", "xmpd"})
            if (const auto chunk = found.chunk(type)) attempt([&] { unpack_metadata(*chunk, type); });
        if (const auto chunk = found.chunk("filt")) attempt([&] { unpack_filter(*chunk, found.header.gray); });
        if (const auto chunk = found.chunk("ALPH"))
            attempt([&] { unpack_alpha(*chunk, found.header.width, found.header.height); });
    });
    return 0;
}
