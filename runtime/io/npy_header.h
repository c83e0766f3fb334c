// The header of a .npy file. Internal to runtime/io.
#pragma once
#include <string>

#include "runtime/io/npy.h"

namespace graft {

constexpr size_t kMaxNpyHeader = 1 << 16;

// Makes a header of version 1.0, as NumPy does.
std::string MakeNpyHeader(const TensorToWrite& array);

// `head` is the beginning of a file of `total` bytes, at least the header if that is at most
// 12 + kMaxNpyHeader long. Checks that the shape is what the rest of the file holds; the result has
// no bytes yet, the data begins at *data_begin. See ParseNpy for what is refused.
NpyView ParseNpyHeader(std::span<const std::byte> head, uint64_t total, const std::string& where,
                       size_t* data_begin);

}  // namespace graft
