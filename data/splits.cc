#include "data/splits.h"

#include <algorithm>
#include <fstream>

#include "runtime/error.h"

namespace graft {

std::vector<std::string> ReadLines(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) Fail("{}: cannot open the file", path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    lines.push_back(std::move(line));
  }
  if (file.bad()) Fail("{}: cannot read the file", path);
  if (!lines.empty() && lines[0].starts_with("\xef\xbb\xbf")) lines[0].erase(0, 3);
  return lines;
}

std::vector<std::string> ReadClassNames(const std::string& path) {
  std::vector<std::string> names = ReadLines(path);
  while (!names.empty() && names.back().find_first_not_of(" \t") == std::string::npos)
    names.pop_back();
  if (names.empty()) Fail("{}: expected a class name per line, found an empty file", path);
  return names;
}

bool Contains(const std::vector<std::string>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::string FirstOf(const std::vector<std::string>& wanted, const std::vector<std::string>& names) {
  for (const std::string& name : wanted)
    if (Contains(names, name)) return name;
  return "";
}

void NoSuchSplit(const std::string& directory, std::string_view name,
                 const std::vector<std::string>& names) {
  const std::string near = Nearest(name, names);
  Fail("{}: there is no split '{}'{}; it has {}", directory, name,
       near.empty() ? "" : fmt::format("; did you mean '{}'?", near), fmt::join(names, ", "));
}

}  // namespace graft
