// The filters of PNG's rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace basic {

class PngRowFilter {
  public:
    // Of rows of so many bytes, with samples of the same channel so far apart.
    PngRowFilter(size_t bytes, size_t step);

    // The row that the first call's is predicted from; without it that is zeros.
    void start_after(const uint8_t* row);

    // Appends a row behind the number of the filter that leaves the smallest sum of magnitudes (clause 12.7
    // of the specification), the first of equals. The next row is predicted from this one.
    void append(const uint8_t* row, std::vector<uint8_t>& to);

  private:
    static constexpr size_t kFilters = 5;

    const size_t bytes_, step_;
    std::vector<uint8_t> row_, above_;  // behind `step` zeros
    std::vector<uint8_t> filtered_;     // (kFilters, bytes)
};

}  // namespace basic
