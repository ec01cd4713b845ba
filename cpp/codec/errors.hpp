// What goes wrong in the decoder, by the status that its C functions return.
#pragma once

#include <stdexcept>
#include <string>

#include "basic_codec.h"

namespace basic::codec {

class Error : public std::runtime_error {
  public:
    Error(basic_status status, const std::string& line) : std::runtime_error(line), status(status) {}
    basic_status status;
};

inline Error damaged(const std::string& what) { return {BASIC_DAMAGED, what + ": get the file again"}; }

inline Error bad_model(const std::string& what) {
    return {BASIC_DAMAGED, "the model is damaged (" + what + "): pack it again"};
}

inline Error bad_picture(const std::string& what) { return damaged("the picture is damaged (" + what + ")"); }

inline constexpr const char* kNoMemory = "not enough memory for this picture: try a smaller one";

// What the exception that is being handled means. To be called in a handler; throws std::bad_alloc where there is no memory
// for a line of text.
Error current_error();

}  // namespace basic::codec
