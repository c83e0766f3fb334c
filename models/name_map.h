// The import tables: file key <-> canonical parameter, as data. See docs/file_formats.md.
#pragma once
#include "models/checkpoint.h"

namespace graft {

// One file tensor. With parts > 1 it holds that many canonical parameters stacked along its first
// dimension (timm's qkv). "#" in a name stands for the block number.
struct NameRule {
  const char* file;
  std::vector<const char*> canonical;
};
const std::vector<NameRule>& NameRules(Layout layout);

// A file tensor of a concrete model: its key and the canonical names it holds, in order.
struct FileKey {
  std::string key;
  std::vector<std::string> canonical;
};
std::vector<FileKey> FileKeys(Layout layout, const std::string& prefix, const VitConfig& config);

// Shape of a file tensor in its layout ([D,3,P,P] for the patch weight, [1,1,D] for the class
// token).
std::vector<int64_t> FileShape(const std::string& first_canonical, size_t parts,
                               const VitConfig& config);

}  // namespace graft
