#include "tools/lib/imagenet_names.h"

#include <sstream>

namespace graft {

extern const char kImageNetNames[];  // made by CMake from tools/data/imagenet_names.txt

const std::vector<std::string>& ImageNetNames() {
  static const std::vector<std::string> kNames = [] {
    std::vector<std::string> names;
    std::istringstream text(kImageNetNames);
    for (std::string line; std::getline(text, line);) names.push_back(line);
    return names;
  }();
  return kNames;
}

}  // namespace graft
