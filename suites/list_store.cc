#include "suites/list_store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "runtime/error.h"
#include "runtime/io/field_hash.h"
#include "runtime/io/fresh_directory.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

// Lets one process at a time write lists; the others wait, and then find them.
class WritersLock {
 public:
  explicit WritersLock(const std::string& root) {
    std::error_code none;
    fs::create_directories(root, none);
    const std::string path = root + "/.lock";
    fd_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd_ < 0) Fail("{}: cannot create: {}", path, std::strerror(errno));
    flock(fd_, LOCK_EX);
  }
  ~WritersLock() { close(fd_); }

 private:
  int fd_ = -1;
};

FieldHash HashOfClasses(const std::vector<std::string>& names) {
  FieldHash fields;
  for (const std::string& name : names) fields.Add(name);
  return fields;
}

}  // namespace

template <class F>
std::string ListStore::Make(const std::string& name, const std::string& hash, const F& write) {
  const std::string path = fmt::format("{}/{}-{}", root_, name, hash.substr(0, 10));
  const WritersLock lock(root_);
  std::error_code none;
  if (fs::exists(path, none)) return path;
  FreshDirectory directory(path);
  write(directory.path());
  directory.Keep();
  return path;
}

std::string ListStore::Images(const std::string& name, std::vector<std::string> class_names,
                              int num_classes, const std::vector<Split>& splits) {
  for (int c = static_cast<int>(class_names.size()); c < num_classes; ++c)
    class_names.push_back(std::to_string(c));
  FieldHash all = HashOfClasses(class_names);
  for (const Split& split : splits) {
    all.Add("split"), all.Add(split.name);
    for (const Example& e : split.examples)
      all.Add(fs::absolute(e.path).lexically_normal().string()), all.Add(int64_t{e.label});
  }
  return Make(name, all.Hex(), [&](const std::string& directory) {
    WriteImageLists(directory, class_names, splits);
  });
}

std::string ListStore::Texts(const std::string& name, const std::vector<std::string>& class_names,
                             const std::vector<TextSplit>& splits) {
  FieldHash all = HashOfClasses(class_names);
  for (const TextSplit& split : splits) {
    all.Add("split"), all.Add(split.name);
    for (const TextExample& e : split.examples) {
      all.Add(e.text), all.Add(int64_t{e.label});
      if (e.second) all.Add("second"), all.Add(*e.second);
    }
  }
  return Make(name, all.Hex(), [&](const std::string& directory) {
    WriteTextTables(directory, class_names, splits);
  });
}

}  // namespace graft
