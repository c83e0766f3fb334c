// Whether the files of a base are what they were when a run began. Its weights are mapped from them
// (mapped_file.h): a change in place changes the weights, while the run says that it trained on
// those of the hash that it began with.
#pragma once
#include <memory>
#include <string>
#include <vector>

namespace graft {

class BaseWatch {
 public:
  explicit BaseWatch(const std::string& model);  // before it is opened; nothing of init:ARCH
  BaseWatch(const BaseWatch&) = delete;
  BaseWatch& operator=(const BaseWatch&) = delete;
  ~BaseWatch();

  // Says which of the files have changed since the start, or "". Size, modification time and bytes
  // of a sample are compared. Where only the change time differs (another name, permissions, or a
  // modification time that was put back), all bytes are compared with `sha256`, the hash of the
  // base; if that is "", because it is not known yet, the file counts as changed.
  std::string Changed(const std::string& sha256);
  // Throws Error if a name leads to another file than at the start, as it does when a file is
  // replaced. That changes no weights, but whatever is read by name from now on is another file.
  void CheckNamed() const;

 private:
  struct File;
  std::vector<std::unique_ptr<File>> files_;
  bool directory_ = false;
};

}  // namespace graft
