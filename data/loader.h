// Feeds a training or evaluation loop: decodes and preprocesses on its own threads, ahead of the
// consumer, and hands out samples in exactly the order asked for, whatever the threads do.
//
//   ImageLoader loader(paths, preprocess);
//   loader.Start(order);                              // an epoch: indices into `paths`
//   while (loader.remaining()) loader.Next(std::min(batch, loader.remaining()), buffer);
//
// One thread at a time may call Start and Next; destroying it at any moment is fine.
#pragma once
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "data/decode_room.h"

namespace graft {

struct LoaderOptions {
  int threads = 1;  // at least 1; one decodes several hundred small images per second
  // Images are kept as bytes after resize and crop, so that later epochs only normalise. The first
  // cache_bytes / (3 * size * size) examples are kept, the others are decoded again in every epoch.
  size_t cache_bytes = 0;
  size_t ahead = 128;  // samples prepared before the consumer asks for them, at least 1
  DecodeBounds decode = {};
  std::shared_ptr<ImageCache> kept = nullptr;  // on disk; null: nothing is kept there
};

// The bytes of a sample before normalisation.
size_t SampleBytes(const Preprocess& preprocess);
// The bytes without which a loader of samples of this size cannot go on.
size_t LeastLoaderBytes(size_t sample_bytes);
// How a loader uses so many bytes more: it decodes more images at once, prepares more ahead and, if
// `again`, keeps up to `examples` of them.
LoaderOptions OptionsWithin(size_t more_bytes, size_t sample_bytes, size_t examples, bool again);
// How many of these bytes the loader may come to hold.
size_t BytesOf(const LoaderOptions& options, size_t sample_bytes);

// A sample before normalisation: bytes [H, W, 3] after resize and crop, shared with the cache.
using Pixels = std::shared_ptr<const std::vector<uint8_t>>;

class ImageLoader {
 public:
  // A file is opened when its turn comes, so nothing throws here.
  ImageLoader(std::vector<std::string> paths, const Preprocess& preprocess,
              const LoaderOptions& options = {});
  // Loads from images in memory.
  ImageLoader(std::vector<Image> images, const Preprocess& preprocess,
              const LoaderOptions& options = {});
  ~ImageLoader();
  ImageLoader(const ImageLoader&) = delete;
  ImageLoader& operator=(const ImageLoader&) = delete;

  size_t size() const;         // examples
  size_t sample_size() const;  // floats of one sample, 3 * H * W

  // Begins an epoch, and drops what is left of an earlier one. Indices may repeat.
  void Start(std::vector<size_t> order);

  // How many samples of the epoch Next has not delivered yet.
  size_t remaining() const;

  // Writes the next `count` samples, [count, 3, H, W], normalised. Waits for the threads. A file
  // that cannot be read throws its Error here, at its place in the order; then the epoch is over.
  // REQUIRES: count <= remaining().
  void Next(size_t count, float* out);
  // Does the same in two parts: appends samples to `out`, and makes one of them floats [3, H, W],
  // which any thread may do at any time.
  void Take(size_t count, std::vector<Pixels>& out);
  void Normalize(const Pixels& sample, float* out) const;

  size_t cached() const;  // examples held decoded
  // How many of the examples decoded so far are to be turned by their EXIF block, which the
  // transform does not do, and the path of the first of them in the list.
  std::pair<size_t, std::string> unturned() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace graft
