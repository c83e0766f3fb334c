// Memory for images while they are decoded, shared by threads: they wait for each other rather than
// take more together.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>

#include "data/preprocess.h"

namespace graft {

// An image that takes more than `bytes` is decoded alone; one that takes more than `limit` is an
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

  // ReadImage of a file, then ResizeAndCrop, when there is room for both. `orientation`: the
  // image's.
  Image Read(const std::string& path, const Preprocess& preprocess, int* orientation);
  // ReadImage alone; then `use` while there is room for the image.
  void Read(const std::string& path, const std::function<void(const Image&)>& use);

 private:
  class Ticket;

  const DecodeBounds bounds_;
  std::mutex mutex_;
  std::condition_variable freed_;
  int64_t used_ = 0;
};

}  // namespace graft
