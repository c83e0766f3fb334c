// The command that runs, for what it leaves behind.
#pragma once
#include <string>

namespace graft {

// The words of this process as a shell takes them, with "graft" in the place of the program's path.
std::string CommandLine();

}  // namespace graft
