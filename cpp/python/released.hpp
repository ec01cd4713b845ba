// The interpreter's lock, released for as long as this lives.
#pragma once

#include <pybind11/pybind11.h>

#include <chrono>
#include <thread>

namespace basic {

// When the interpreter ends, Python before 3.14 unwinds threads that want its lock back, as daemons do. That would abort the
// process in pybind11's own, and end objects of Python without its lock beyond it. So they wait for the end of the process,
// as in later versions.
class Released {
  public:
    Released() : state_(PyEval_SaveThread()) {}
    Released(const Released&) = delete;
    Released& operator=(const Released&) = delete;
    ~Released() {
        try {
            PyEval_RestoreThread(state_);
        } catch (...) {
            for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
        }
    }

  private:
    PyThreadState* state_;
};

}  // namespace basic
