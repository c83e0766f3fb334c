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
  // Images are kept as bytes after resize and crop, so later epochs only normalise. The first
  // cache_bytes / (3 * size * size) examples are kept, the others decoded again in every epoch.
  size_t cache_bytes = 0;
  size_t ahead = 128;  // samples prepared before the consumer asks for them, at least 1
  DecodeBounds decode = {};
};

// Of a sample before normalisation.
size_t SampleBytes(const Preprocess& preprocess);
// What a loader of samples of this size needs to go on at all.
size_t LeastLoaderBytes(size_t sample_bytes);
// What it does with so many bytes more: decodes more images at once, prepares more ahead and, if
// `again`, keeps up to `examples` of them.
LoaderOptions OptionsWithin(size_t more_bytes, size_t sample_bytes, size_t examples, bool again);
// Of the bytes, those that it may come to hold.
size_t BytesOf(const LoaderOptions& options, size_t sample_bytes);

// A sample before normalisation: bytes [H, W, 3] after resize and crop, shared with the cache.
using Pixels = std::shared_ptr<const std::vector<uint8_t>>;

class ImageLoader {
 public:
  // A file is opened when its turn comes. Throws Error for nothing.
  ImageLoader(std::vector<std::string> paths, const Preprocess& preprocess,
              const LoaderOptions& options = {});
  // The same from images in memory.
  ImageLoader(std::vector<Image> images, const Preprocess& preprocess,
              const LoaderOptions& options = {});
  ~ImageLoader();
  ImageLoader(const ImageLoader&) = delete;
  ImageLoader& operator=(const ImageLoader&) = delete;

  size_t size() const;         // examples
  size_t sample_size() const;  // floats of one sample, 3 * H * W

  // Begins an epoch; what an earlier one has left is dropped. Indices may repeat.
  void Start(std::vector<size_t> order);

  // Samples of the epoch that Next has not delivered yet.
  size_t remaining() const;

  // Writes the next `count` samples, [count, 3, H, W], normalised. Waits for the threads. A file
  // that cannot be read throws its Error here, at its place in the order; then the epoch is over.
  // REQUIRES: count <= remaining().
  void Next(size_t count, float* out);
  // The same in two parts: samples appended to `out`, and one of them made floats [3, H, W], which
  // any thread may do at any time.
  void Take(size_t count, std::vector<Pixels>& out);
  void Normalize(const Pixels& sample, float* out) const;

  size_t cached() const;  // examples held decoded
  // Examples decoded so far that EXIF says are to be turned, which the transform does not do, and
  // the path of the first of them in the list.
  std::pair<size_t, std::string> unturned() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace graft
