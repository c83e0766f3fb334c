// The command that runs, as it is recorded in what it leaves behind.
#pragma once
#include <string>

namespace graft {

// The words of this process as a shell takes them, with "graft" for the program's path.
std::string CommandLine();

}  // namespace graft
