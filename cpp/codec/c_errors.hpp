// Errors of C libraries that end a call by longjmp.
#pragma once

#include <csetjmp>
#include <cstdio>

#include "errors.hpp"

namespace basic::codec {

class JumpPoint {
  public:
    // Calls the library. Objects with destructors must not live within `work`: they would be jumped over. Throws Error with
    // the line that `fail` was given.
    template <typename Work>
    void guard(const Work& work) {
        if (setjmp(back_) != 0) throw bad_picture(line_);
        work();
    }

    // Within `guard`, and never from a frame that has destructors to call.
    [[noreturn]] void fail(const char* line) {
        std::snprintf(line_, sizeof line_, "%s", line);
        std::longjmp(back_, 1);
    }

  private:
    std::jmp_buf back_;
    char line_[200];
};

}  // namespace basic::codec
