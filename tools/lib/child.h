// Runs this program again as a child, so that what is measured is what a user would run, and every
// run has a peak memory of its own.
#pragma once
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace graft {

struct ChildResult {
  int exit_code = 0;
  nlohmann::json json;    // of its standard output
  std::string last_line;  // of its standard error: the message, if it failed
  size_t peak_memory_bytes = 0;
};

// Runs `graft ARGS --json`; `on_line` receives each line of standard error as it comes. Throws
// Error if the child cannot be started. If the child fails, `exit_code` says so (128 + n for signal
// n).
ChildResult RunSelf(std::vector<std::string> args,
                    const std::function<void(const std::string&)>& on_line);

}  // namespace graft
