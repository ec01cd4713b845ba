// Memory that the process keeps for its next tensors: fresh memory of the system would have to be cleared page by page,
// which takes longer than many a layer.
#pragma once

#include <cstddef>
#include <cstdint>

namespace basic {

// So many bytes of any content, aligned as for any type.
class Memory {
  public:
    Memory() = default;
    explicit Memory(size_t bytes);
    Memory(Memory&& other) noexcept;
    Memory& operator=(Memory&& other) noexcept;
    ~Memory();

    template <typename Value>
    Value* as() const {
        return static_cast<Value*>(data_);
    }

  private:
    void* data_ = nullptr;
    size_t bytes_ = 0;  // as many as there are, which may be more than were asked for
};

}  // namespace basic
