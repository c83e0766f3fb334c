// Images after resize and crop that survive between runs, so that the units of a suite decode each
// image once: files in CacheDirectory()/images, at most kImageCacheBytes together, of which those
// used longest ago go first. GRAFT_IMAGE_CACHE=SIZE is another bound, and 0 keeps nothing.
//
// Entries are named by what is in the image's file and by the transform, so files may be moved,
// copied and changed as one likes. Any number of threads and processes may use a cache at once, and
// die at any moment: an entry appears whole, and one that is damaged is none. A cache that cannot
// be read or written is only slower: nothing here fails because of it.
#pragma once
#include <atomic>
#include <memory>
#include <mutex>
#include <optional>

#include "data/preprocess.h"

namespace graft {

inline constexpr size_t kImageCacheBytes = size_t{4} << 30;

class ImageCache {
 public:
  // `bytes`: the most that the folder holds while up to four processes add to it.
  ImageCache(std::string folder, size_t bytes);
  // That of the user; null where there is none.
  static std::shared_ptr<ImageCache> OfUser();

  // A hash of everything that decides the pixels: the file's bytes, resize and crop, and the
  // program (another build may decode otherwise). Mean and std do not count.
  std::string Key(std::span<const std::byte> file, const Preprocess& preprocess) const;
  // The image of this key, whose sides are `size`, if it is there and whole. Its orientation is
  // what was kept.
  std::optional<Image> Find(const std::string& key, int size);
  void Keep(const std::string& key, const Image& image);

  // How many images of this size a data set may keep: with half of the bound, its own entries do
  // not push each other out before they are wanted again.
  size_t Room(int size) const;
  size_t found() const { return found_; }
  size_t kept() const { return kept_; }

 private:
  std::string PathOf(const std::string& key) const { return folder_ + "/" + key; }
  size_t Cost(int size) const;
  bool MakeRoom(size_t bytes);

  const std::string folder_;
  const size_t bound_;
  std::string program_;
  std::atomic<size_t> found_ = 0, kept_ = 0;
  std::atomic<bool> off_ = false;  // a write has failed
  std::mutex mutex_;               // guards what follows
  uint64_t allowance_ = 0;         // bytes that may be added before the folder is looked at again
};

}  // namespace graft
