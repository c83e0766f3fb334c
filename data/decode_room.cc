#include "data/decode_room.h"

#include <algorithm>
#include <filesystem>

#include "runtime/error.h"
#include "runtime/io/atomic_file.h"

namespace graft {
namespace {

// A file up to this size is read before it has its place in the room, as only its header tells how
// much it takes.
constexpr int64_t kSmallFile = 2 << 20;

int64_t FileBytes(const std::string& path) {
  std::error_code error;  // reading it says what is wrong
  const auto bytes = std::filesystem::file_size(path, error);
  return error ? 0 : static_cast<int64_t>(std::min<uintmax_t>(bytes, kMaxImageBytes));
}

}  // namespace

// A place in the room, for as long as it lives. It is taken at once: a thread that waited for more
// while it held some could wait forever.
class DecodeRoom::Ticket {
 public:
  Ticket(DecodeRoom& room, const std::string& path) : room_(room), path_(path) {
    if (const int64_t bytes = FileBytes(path); bytes > kSmallFile)
      Take(bytes, std::max(bytes, room.bounds_.bytes));  // alone
  }
  Ticket(const Ticket&) = delete;
  Ticket& operator=(const Ticket&) = delete;
  ~Ticket() {
    const std::lock_guard lock(room_.mutex_);
    room_.used_ -= taken_;
    room_.freed_.notify_all();
  }

  void Take(int64_t bytes) { Take(bytes, bytes); }

 private:
  void Take(int64_t bytes, int64_t place) {
    constexpr double kMiB = 1 << 20;
    if (bytes > room_.bounds_.limit)
      Fail("{}: decoding takes {:.1f} MiB, more than the memory budget of {:.1f} MiB", path_,
           static_cast<double>(bytes) / kMiB, static_cast<double>(room_.bounds_.limit) / kMiB);
    if (taken_ > 0) return;  // alone already
    std::unique_lock lock(room_.mutex_);
    room_.freed_.wait(
        lock, [&] { return room_.used_ == 0 || room_.used_ + place <= room_.bounds_.bytes; });
    room_.used_ += taken_ = place;
  }

  DecodeRoom& room_;
  const std::string& path_;
  int64_t taken_ = 0;
};

Image DecodeRoom::Read(const std::string& path, const Preprocess& preprocess, int* orientation,
                       ImageCache* cache) {
  Ticket ticket(*this, path);
  const std::string file = ReadFile(path, kMaxImageBytes);
  const std::span bytes = std::as_bytes(std::span(file));
  const std::string key = cache ? cache->Key(bytes, preprocess) : "";
  if (std::optional<Image> kept = cache ? cache->Find(key, preprocess.size()) : std::nullopt) {
    *orientation = kept->orientation;
    return std::move(*kept);
  }
  const Image image = DecodeImage(bytes, path, [&](const DecodeCost& c) {
    ticket.Take(c.bytes + ResizeAndCropBytes(c.width, c.height, preprocess));
  });
  *orientation = image.orientation;
  Image sample = ResizeAndCrop(image, preprocess);
  sample.orientation = image.orientation;
  if (cache) cache->Keep(key, sample);
  return sample;
}

void DecodeRoom::Read(const std::string& path, const std::function<void(const Image&)>& use) {
  Ticket ticket(*this, path);
  use(ReadImage(path, [&](const DecodeCost& c) { ticket.Take(c.bytes); }));
}

}  // namespace graft
