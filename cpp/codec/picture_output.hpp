// Writes pictures as PNG, or as PPM, PGM or PAM.
#pragma once

#include <string>

#include "basic_codec.h"

namespace basic::codec {

// Writes a file whose kind its name tells; "-" is standard output, as PAM. A file takes its name once it is whole, and
// replaces no other unless `overwrite`. So many threads compress a PNG. Throws Error.
void write_picture(const std::string& path, const basic_picture& picture, bool overwrite, size_t threads);

// The same check that `write_picture` makes, before there is a picture.
void check_output(const std::string& path, bool overwrite);

}  // namespace basic::codec
