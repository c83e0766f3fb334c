// Names of the classes of ImageNet-1k (tools/data/README.md).
#pragma once
#include <string>
#include <vector>

namespace graft {

const std::vector<std::string>& ImageNetNames();  // 1,000

}  // namespace graft
