// The pixels of a PNG: filtered rows in a zlib stream (RFC 1950, RFC 1951; PNG, third edition, 9 and 10).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace basic {

// Samples of 8 bits, of 1 to 4 channels side by side.
struct PngSamples {
    const uint8_t* data;
    size_t rows, columns, channels;
    ptrdiff_t row_stride;  // from row to row, in bytes
};

// The stream, in parts that each are the content of an IDAT chunk. The same samples give the same stream,
// whatever the number of threads and the processor.
//
// Each row has the filter that leaves the smallest numbers. What that leaves of a photo repeats little but
// runs of one byte, so these alone are looked for, as zlib does with Z_RLE. Stripes of rows are blocks with a
// Huffman code each, which threads make side by side.
class PngPixels {
  public:
    // The samples must stay as long as this. Throws std::invalid_argument for other numbers of channels, for
    // no rows or columns, or for what are no threads (workers.hpp).
    PngPixels(const PngSamples& samples, size_t threads);

    bool done() const { return row_ == samples_.rows; }

    // The next part, of about a megabyte of samples. Only before `done()`.
    std::vector<uint8_t> next();

  private:
    PngSamples samples_;
    size_t threads_, stripe_rows_, row_ = 0;
    uint32_t checksum_ = 1;
};

}  // namespace basic
