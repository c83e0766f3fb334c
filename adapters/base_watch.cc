#include "adapters/base_watch.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "adapters/base_hash.h"
#include "runtime/error.h"
#include "runtime/io/sha256.h"

namespace graft {
namespace {

bool Same(const timespec& a, const timespec& b) {
  return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

}  // namespace

struct BaseWatch::File {
  explicit File(const std::string& name)
      : path(name), fd(open(name.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
    if (fd < 0 || fstat(fd, &first) != 0) return;  // the reader says what is wrong
    sample = HashOf(kPieces);
  }
  File(const File&) = delete;
  ~File() {
    if (fd >= 0) close(fd);
  }

  // Hashes the first bytes, the last ones and so many pieces between them; for 0 pieces,
  // everything.
  std::string HashOf(int64_t pieces) const {
    Sha256 hash;
    std::vector<std::byte> buffer(pieces ? 4096 : 1 << 20);
    const int64_t size = first.st_size, piece = std::ssize(buffer);
    const int64_t last = std::max<int64_t>(0, size - piece);
    for (int64_t i = 0, at = 0; at < size; ++i) {
      const ssize_t n = pread(fd, buffer.data(), buffer.size(), at);
      if (n <= 0) break;
      hash.Update(std::span(buffer).first(n));
      if (pieces && at == last) break;
      at = pieces ? std::max(at + 1, last * (i + 1) / (pieces - 1)) : at + n;
    }
    return hash.Hex();
  }

  static constexpr int64_t kPieces = 64;
  std::string path;
  int fd;
  struct stat first {};
  std::string sample;
};

BaseWatch::BaseWatch(const std::string& model) {
  std::error_code ignored;
  directory_ = std::filesystem::is_directory(model, ignored);
  for (const std::string& path : BaseFiles(model)) files_.push_back(std::make_unique<File>(path));
}
BaseWatch::~BaseWatch() = default;

std::string BaseWatch::Changed(const std::string& sha256) {
  bool touched = false;
  for (const auto& file : files_) {
    struct stat now {};
    const auto changed = [&](const std::string& what) {
      return fmt::format("{}: the base has changed since the run began: {}", file->path, what);
    };
    if (fstat(file->fd, &now) != 0) return changed("it cannot be read any more");
    if (now.st_size != file->first.st_size)
      return changed(fmt::format("its {} bytes are {} now", file->first.st_size, now.st_size));
    if (!Same(now.st_mtim, file->first.st_mtim)) return changed("it was written to");
    if (file->HashOf(File::kPieces) != file->sample) return changed("it has other bytes");
    touched |= !Same(now.st_ctim, file->first.st_ctim);
    if (touched && sha256.empty()) return changed("it, or what the system says of it");
  }
  if (!touched) return "";
  std::vector<std::string> hashes;
  for (const auto& file : files_) hashes.push_back(file->HashOf(0));
  if (JoinHashes(hashes, directory_) == sha256) {
    for (const auto& file : files_) fstat(file->fd, &file->first);
    return "";
  }
  return fmt::format("{}: the base has changed since the run began: it has other bytes",
                     files_.front()->path);
}

void BaseWatch::CheckNamed() const {
  for (const auto& file : files_) {
    struct stat now {};
    if (stat(file->path.c_str(), &now) != 0 || now.st_dev != file->first.st_dev ||
        now.st_ino != file->first.st_ino)
      Fail("{}: the base was replaced while it was being read; hint: start again", file->path);
  }
}

}  // namespace graft
