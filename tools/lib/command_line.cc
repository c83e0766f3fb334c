#include "tools/lib/command_line.h"

#include <fstream>

#include "runtime/error.h"

namespace graft {

std::string CommandLine() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  std::string line, word;
  for (bool first = true; std::getline(file, word, '\0'); first = false)
    line += first ? "graft" : " " + ShellWord(word);
  return line;
}

}  // namespace graft
