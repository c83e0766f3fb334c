// The JSON header of a safetensors file, both ways. Internal to runtime/io.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "runtime/io/safetensors.h"

namespace graft {

struct SafetensorsHeader {
  std::vector<FileTensor> tensors;  // sorted by offset
  StringMap metadata;
};

// Checks everything that can be checked without the data. Afterwards the tensors lie one behind the
// other, each as long as its shape says, and fill [0, data_bytes) exactly.
SafetensorsHeader ParseSafetensorsHeader(std::string_view json, uint64_t data_bytes,
                                         const std::string& path);

}  // namespace graft
