// Memory for images that are being decoded, shared by threads: they wait for each other rather than
// take more together.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>

#include "data/image_cache.h"

namespace graft {

// An image that takes more than `bytes` is decoded alone. One that takes more than `limit` is an
// Error.
struct DecodeBounds {
  int64_t bytes = int64_t{128} << 20;
  int64_t limit = INT64_MAX;
};

class DecodeRoom {
 public:
  explicit DecodeRoom(const DecodeBounds& bounds) : bounds_(bounds) {}
  DecodeRoom(const DecodeRoom&) = delete;
  DecodeRoom& operator=(const DecodeRoom&) = delete;

  // Decodes a file and calls ResizeAndCrop, when there is room for both, unless the cache has the
  // result; `cache` may be null. `orientation` gets that of the file.
  Image Read(const std::string& path, const Preprocess& preprocess, int* orientation,
             ImageCache* cache = nullptr);
  // Calls ReadImage alone, and then `use` while there is still room for the image.
  void Read(const std::string& path, const std::function<void(const Image&)>& use);

 private:
  class Ticket;

  const DecodeBounds bounds_;
  std::mutex mutex_;
  std::condition_variable freed_;
  int64_t used_ = 0;
};

}  // namespace graft
