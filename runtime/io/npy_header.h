// The header of a .npy file. Internal to runtime/io.
#pragma once
#include <string>

#include "runtime/io/file_tensor.h"

namespace graft {

// Version 1.0, as NumPy writes it.
std::string MakeNpyHeader(const TensorToWrite& array);

}  // namespace graft
