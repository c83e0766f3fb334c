#include "suites/list_store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "runtime/error.h"
#include "runtime/io/fresh_directory.h"
#include "runtime/io/sha256.h"

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

std::string HashOfText(const std::string& text) {
  return Sha256Hex(std::as_bytes(std::span(text))).substr(0, 10);
}

}  // namespace

template <class F>
std::string ListStore::Make(const std::string& name, const std::string& hash, const F& write) {
  const std::string path = fmt::format("{}/{}-{}", root_, name, hash);
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
  std::string all = fmt::format("{}\n", fmt::join(class_names, "\n"));
  for (const Split& split : splits) {
    all += fmt::format("split {}\n", split.name);
    for (const Example& e : split.examples)
      all += fmt::format("{} {}\n", fs::absolute(e.path).lexically_normal().string(), e.label);
  }
  return Make(name, HashOfText(all), [&](const std::string& directory) {
    WriteImageLists(directory, class_names, splits);
  });
}

std::string ListStore::Texts(const std::string& name, const std::vector<std::string>& class_names,
                             const std::vector<TextSplit>& splits) {
  std::string all = fmt::format("{}\n", fmt::join(class_names, "\n"));
  for (const TextSplit& split : splits) {
    all += fmt::format("split {}\n", split.name);
    for (const TextExample& e : split.examples)
      all += fmt::format("{}\t{}\t{}\n", e.text, e.second.value_or(""), e.label);
  }
  return Make(name, HashOfText(all), [&](const std::string& directory) {
    WriteTextTables(directory, class_names, splits);
  });
}

}  // namespace graft
