// Directories that a command makes. What killed processes have left of their first writes (names
// like `.NAME.graft-tmp` that nobody has locked) is removed.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "runtime/io/directory.h"

namespace graft {

// Makes the directory and those above it. Throws Error if it exists and holds anything.
void CreateFreshDirectory(const std::string& path);

// A directory of files that are of use only together. They are written into a temporary directory,
// which this process has locked, and get their name when all are there. So a failure or a kill
// leaves nothing under that name, and of two processes that write the same one the second gets an
// Error.
// A directory that does not exist yet gets its name in one step. One that exists and is empty keeps
// its owner and place: the files are moved up into it one by one.
class FreshDirectory {
 public:
  explicit FreshDirectory(const std::string& path);
  ~FreshDirectory();  // without Keep: nothing is left
  FreshDirectory(const FreshDirectory&) = delete;
  FreshDirectory& operator=(const FreshDirectory&) = delete;

  const std::string& path() const { return temporary_->path(); }  // where to write, until Keep
  void Keep();

 private:
  void MakeTemporary(const std::string& path);
  void MoveUp();

  std::string path_;
  bool existed_ = false, kept_ = false;
  std::vector<std::string> made_;  // directories above it, the lowest last
  std::shared_ptr<const Directory> temporary_;
};

}  // namespace graft
