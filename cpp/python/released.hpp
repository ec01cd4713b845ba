// The interpreter's lock, released for as long as this lives.
#pragma once

#include <pybind11/pybind11.h>

namespace basic {

// Unlike pybind11's own, its end may be that of the thread: when the interpreter ends, Python before 3.14 unwinds threads
// that want its lock back, as daemons do, and a destructor that may not throw would abort the process.
class Released {
  public:
    Released() : state_(PyEval_SaveThread()) {}
    Released(const Released&) = delete;
    Released& operator=(const Released&) = delete;
    ~Released() noexcept(false) { PyEval_RestoreThread(state_); }

  private:
    PyThreadState* state_;
};

}  // namespace basic
