#include "data/image_cache.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "runtime/error.h"
#include "runtime/io/cache_folder.h"
#include "runtime/io/file_stamp.h"
#include "runtime/io/sha256.h"

namespace graft {
namespace {

// An entry: the hash of what follows (in hexadecimal), the orientation, the pixels.
constexpr size_t kHashBytes = 64, kHeaderBytes = kHashBytes + 1;

size_t EntryBytes(int size) {
  return kHeaderBytes + size_t{3} * static_cast<size_t>(size) * static_cast<size_t>(size);
}

// With the key, so that an entry under another name is none.
std::string HashOf(const std::string& key, std::string_view orientation_and_pixels) {
  Sha256 hash;
  hash.Update(std::as_bytes(std::span(key)));
  hash.Update(std::as_bytes(std::span(orientation_and_pixels)));
  return hash.Hex();
}

// Reads a file of exactly so many bytes, and marks it as used now.
bool ReadExactly(const std::string& path, size_t bytes, std::string* text) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return false;
  struct stat status {};
  bool whole = fstat(fd, &status) == 0 && S_ISREG(status.st_mode) &&
               static_cast<size_t>(status.st_size) == bytes;
  text->resize(bytes);
  for (size_t done = 0; whole && done < bytes;) {
    const ssize_t n = read(fd, text->data() + done, bytes - done);
    if (n < 0 && errno == EINTR) continue;
    whole = n > 0;
    done += whole ? static_cast<size_t>(n) : 0;
  }
  if (whole) futimens(fd, nullptr);
  close(fd);
  return whole;
}

// Writes a new file. It is not synced: after a power failure it may be damaged, which is seen.
bool WriteNew(const std::string& path, std::string_view text) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0) return false;
  bool whole = true;
  while (whole && !text.empty()) {
    const ssize_t n = write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    whole = n > 0;
    if (whole) text.remove_prefix(static_cast<size_t>(n));
  }
  whole = close(fd) == 0 && whole;
  if (!whole) unlink(path.c_str());
  return whole;
}

}  // namespace

ImageCache::ImageCache(std::string folder, size_t bytes)
    : folder_(std::move(folder)), bound_(bytes) {
  if (const std::optional<FileStamp> program = StampOf("/proc/self/exe"))
    program_ = fmt::format("{} {} {} {}", program->path, program->size, program->modified_ns,
                           program->changed_ns);
}

std::shared_ptr<ImageCache> ImageCache::OfUser() {
  const std::string directory = CacheDirectory();
  const size_t bound = CacheBound("GRAFT_IMAGE_CACHE", kImageCacheBytes);
  if (directory.empty() || bound == 0) return nullptr;
  return std::make_shared<ImageCache>(directory + "/images", bound);
}

// The folder is looked at as a whole, so it must not have too many files: small ones count as
// larger than they are.
size_t ImageCache::Cost(int size) const {
  constexpr size_t kMostFiles = 1 << 16;
  return std::max(EntryBytes(size), bound_ / kMostFiles);
}

size_t ImageCache::Room(int size) const { return bound_ / 2 / Cost(size); }

std::string ImageCache::Key(std::span<const std::byte> file, const Preprocess& preprocess) const {
  Preprocess pixels = preprocess;
  pixels.mean = pixels.std = {1, 1, 1};  // they come later
  const std::string text = fmt::format("{}\n{}\n{}\n", program_, ToString(pixels), file.size());
  Sha256 hash;
  hash.Update(std::as_bytes(std::span(text)));
  hash.Update(file);
  return hash.Hex();
}

std::optional<Image> ImageCache::Find(const std::string& key, int size) {
  std::string text;
  if (!ReadExactly(PathOf(key), EntryBytes(size), &text)) return std::nullopt;
  const std::string_view rest = std::string_view(text).substr(kHashBytes);
  if (text.compare(0, kHashBytes, HashOf(key, rest)) != 0) return std::nullopt;
  ++found_;
  Image image{.width = size, .height = size, .rgb = {}};
  image.orientation = static_cast<unsigned char>(rest[0]);
  image.rgb.assign(rest.begin() + 1, rest.end());
  return image;
}

// The folder is looked at once for every sixteenth of the bound that this process adds. It is then
// at most three quarters full, so that four processes that add at once stay within the bound.
bool ImageCache::MakeRoom(size_t bytes) {
  const std::lock_guard lock(mutex_);
  if (bytes > bound_ / 16) return false;
  if (allowance_ < bytes) {
    std::error_code error;
    std::filesystem::create_directories(folder_, error);
    if (error) return false;
    KeepNewest(folder_, bound_ / 4 * 3, Cost(0));
    allowance_ = bound_ / 16;
  }
  allowance_ -= bytes;
  return true;
}

void ImageCache::Keep(const std::string& key, const Image& image) {
  const bool square = image.width == image.height &&
                      kHeaderBytes + image.rgb.size() == EntryBytes(image.width);
  if (off_ || !square || !MakeRoom(Cost(image.width))) return;
  std::string text(1, static_cast<char>(image.orientation));
  text.append(reinterpret_cast<const char*>(image.rgb.data()), image.rgb.size());
  text.insert(0, HashOf(key, text));
  // What a killed process leaves of its own goes with the oldest.
  static std::atomic<uint64_t> number = 0;
  const std::string temporary =
      PathOf(fmt::format(".{}.{}.{}", key.substr(0, 16), getpid(), number++));
  if (!WriteNew(temporary, text)) {
    off_ = true;  // a full disk, a folder that is not ours
  } else if (std::rename(temporary.c_str(), PathOf(key).c_str()) == 0) {
    ++kept_;
  } else if (errno != ENOENT) {  // else another process has made room with it
    unlink(temporary.c_str());
    off_ = true;
  }
}

}  // namespace graft
