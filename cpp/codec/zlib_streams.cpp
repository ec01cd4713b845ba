#include "zlib_streams.hpp"

#include <zlib.h>

#include <algorithm>
#include <new>

namespace basic::codec {

std::vector<uint8_t> inflate(Bytes stream, size_t size, const char* what) {
    const auto wrong = [&] { return damaged(std::string(what) + " does not hold the bytes it should"); };
    // A stream of n bytes holds less than 1032 n: what claims more takes no memory.
    if (size / 1032 > stream.size()) throw wrong();
    std::vector<uint8_t> data(size);
    uLongf found = size;
    uLong used = stream.size();
    const int result = uncompress2(data.data(), &found, stream.data(), &used);
    if (result == Z_MEM_ERROR) throw std::bad_alloc();
    if (result != Z_OK || found != size || used != stream.size()) throw wrong();
    return data;
}

std::vector<uint8_t> inflate_up_to(Bytes stream, size_t most) {
    std::vector<uint8_t> data;
    for (size_t room = 4 * stream.size() + 64;; room *= 4) {
        data.resize(std::min(room, most + 1));
        uLongf found = data.size();
        const int result = uncompress(data.data(), &found, stream.data(), stream.size());
        if (result == Z_MEM_ERROR) throw std::bad_alloc();
        if (result == Z_BUF_ERROR && data.size() <= most) continue;  // there is more
        if (result == Z_OK)
            data.resize(found);
        else if (result != Z_BUF_ERROR)
            data.clear();
        return data;
    }
}

std::vector<uint8_t> deflate(Bytes bytes) {
    uLongf size = compressBound(bytes.size());
    std::vector<uint8_t> stream(size);
    if (compress2(stream.data(), &size, bytes.data(), bytes.size(), Z_BEST_COMPRESSION) != Z_OK) throw std::bad_alloc();
    stream.resize(size);
    return stream;
}

}  // namespace basic::codec
