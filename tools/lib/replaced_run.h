// What --force of `graft train` replaces.
#pragma once
#include <filesystem>
#include <string>

namespace graft {

// A finished run is worth more than one that may not begin: while the new run has saved nothing,
// the old one waits beside it, as .NAME.replaced.graft-tmp, and comes back if nothing comes of the
// new one. A command that was killed meanwhile leaves it there for the next --force, which takes it
// for the run.
class ReplacedRun {
 public:
  // Throws Error for a directory that holds anything but a run, or in which somebody trains.
  explicit ReplacedRun(const std::string& run);
  ~ReplacedRun();
  ReplacedRun(const ReplacedRun&) = delete;
  ReplacedRun& operator=(const ReplacedRun&) = delete;

 private:
  std::filesystem::path run_, aside_;
  bool waits_ = false;
};

}  // namespace graft
