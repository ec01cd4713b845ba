#include "errors.hpp"

#include <new>

#include "basic/coder.hpp"

namespace basic::codec {

Error current_error() {
    try {
        throw;
    } catch (const Error& problem) {
        return problem;
    } catch (const StreamError& problem) {
        return damaged("the coded latents are damaged (" + std::string(problem.what()) + ")");
    } catch (const std::bad_alloc&) {
        return {BASIC_NO_MEMORY, kNoMemory};
    } catch (const std::length_error&) {
        return {BASIC_NO_MEMORY, kNoMemory};
    } catch (const std::invalid_argument& problem) {
        return {BASIC_DESYNC, "the model's results cannot be coded with: " + std::string(problem.what())};
    } catch (const std::exception& problem) {
        return {BASIC_INTERNAL, problem.what()};
    }
}

}  // namespace basic::codec
