// A directory that is held open: whatever is read and written through it is in that directory, even
// if its name leads to another one meanwhile.
#pragma once
#include <memory>
#include <string>

namespace graft {

class Directory {
 public:
  // Throws Error unless the path leads to a directory that can be read.
  static std::shared_ptr<const Directory> Open(const std::string& path);
  // Returns null where Open would throw; errno says why.
  static std::shared_ptr<const Directory> TryOpen(const std::string& path);
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  ~Directory();

  int fd() const { return fd_; }
  const std::string& path() const { return path_; }  // as it was opened
  std::string file(const std::string& name) const { return path_ + "/" + name; }

  // Locks the directory until this object goes; returns false if another process holds the lock. On
  // a file system without locks everybody gets it.
  bool Lock() const;
  // Whether path() still leads here: the directory may have been moved, removed or replaced.
  bool Named() const;
  bool Removed() const;
  std::string Now() const;  // where it is now, by /proc
  bool Has(const std::string& name) const;
  void Remove(const std::string& name) const;  // a file, if it is there

 private:
  Directory(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}

  std::string path_;
  int fd_;
};

// Where to write: a path, or a name in a directory that is held open. What is there is replaced,
// but a file that this process has read (files_read.h) only if it is `owned`, as the state of a run
// is.
struct FilePlace {
  FilePlace(std::string file) : path(std::move(file)) {}
  FilePlace(const char* file) : path(file) {}
  FilePlace(std::shared_ptr<const Directory> d, const std::string& file, bool owns = false)
      : path(d->file(file)), directory(std::move(d)), name(file), owned(owns) {}

  std::string path;  // also for messages
  std::shared_ptr<const Directory> directory = nullptr;
  std::string name = {};
  bool owned = false;
};

}  // namespace graft
