#include "data/loader.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <new>
#include <set>
#include <thread>
#include <utility>

#include "runtime/affinity.h"
#include "runtime/error.h"

namespace graft {
namespace {

// Shares of the least that a loader needs, and of the most that is of use to it.
constexpr size_t kLeastDecode = size_t{8} << 20, kMostDecode = size_t{128} << 20;
constexpr size_t kLeastAhead = size_t{4} << 20, kMostAhead = size_t{64} << 20;
constexpr size_t kMostSamplesAhead = 128;

// How many samples fit; there is always one.
size_t AheadWithin(size_t bytes, size_t sample_bytes) {
  return std::clamp<size_t>(bytes / sample_bytes, 1, kMostSamplesAhead);
}

}  // namespace

size_t SampleBytes(const Preprocess& p) {
  return size_t{3} * static_cast<size_t>(p.size()) * static_cast<size_t>(p.size());
}

size_t LeastLoaderBytes(size_t sample_bytes) {
  return kLeastDecode + AheadWithin(kLeastAhead, sample_bytes) * sample_bytes;
}

LoaderOptions OptionsWithin(size_t more_bytes, size_t sample_bytes, size_t examples, bool again) {
  LoaderOptions o;
  const size_t share = again ? more_bytes / 8 : more_bytes / 2;  // the rest is the cache's
  const size_t decode = kLeastDecode + std::min(share, kMostDecode - kLeastDecode);
  o.decode.bytes = static_cast<int64_t>(decode);
  const size_t least = AheadWithin(kLeastAhead, sample_bytes);
  o.ahead = std::max(least,
                     AheadWithin(std::min(least * sample_bytes + share, kMostAhead), sample_bytes));
  if (again)
    o.cache_bytes =
        std::min(more_bytes - (decode - kLeastDecode) - (o.ahead - least) * sample_bytes,
                 examples * sample_bytes);
  return o;
}

size_t BytesOf(const LoaderOptions& o, size_t sample_bytes) {
  return static_cast<size_t>(o.decode.bytes) + o.ahead * sample_bytes + o.cache_bytes;
}

// Positions of the epoch's order are claimed by the workers one after the other (`claimed`), put
// into slot position % ahead, and taken in order by the consumer (`taken`); a worker that is
// `ahead` positions before the consumer waits. `epoch` tells results of an abandoned epoch from
// current ones.
struct ImageLoader::State {
  struct Slot {
    bool ready = false;
    Pixels pixels;
    std::exception_ptr error;
  };

  std::vector<std::string> paths;  // one of these two is empty
  std::vector<Image> images;
  Preprocess preprocess;
  LoaderOptions options;
  Normalizer normalizer;
  size_t sample_bytes;
  DecodeRoom room;

  mutable std::mutex mutex;  // guards everything below
  std::condition_variable work, result;
  std::vector<size_t> order;
  std::vector<Slot> slots;
  std::vector<Pixels> cache;
  std::set<size_t> unturned;  // examples with another orientation than 1, as far as decoded
  size_t claimed = 0, taken = 0;
  uint64_t epoch = 0;
  bool stop = false;
  std::vector<std::thread> threads;

  State(std::vector<std::string> paths_in, std::vector<Image> images_in, const Preprocess& p,
        const LoaderOptions& o)
      : paths(std::move(paths_in)),
        images(std::move(images_in)),
        preprocess(p),
        options(o),
        normalizer(p),
        sample_bytes(SampleBytes(p)),
        room(o.decode) {
    GRAFT_CHECK(o.threads > 0 && o.ahead > 0);
    slots.resize(o.ahead);
    cache.resize(std::min(o.cache_bytes / sample_bytes, size()));
    try {
      for (int i = 0; i < o.threads; ++i) threads.emplace_back([this] { Work(); });
    } catch (...) {  // the system is out of threads: join those that run
      Join();
      throw;
    }
  }

  size_t size() const { return paths.empty() ? images.size() : paths.size(); }

  void Join() {
    {
      const std::lock_guard lock(mutex);
      stop = true;
    }
    work.notify_all();
    for (std::thread& thread : threads) thread.join();
  }

  // Of a data set that is larger than its room in the cache, the first examples are kept there.
  ImageCache* KeptFor(size_t index) const {
    const bool keeps = options.kept && index < options.kept->Room(preprocess.size());
    return keeps ? options.kept.get() : nullptr;
  }

  Pixels Decode(size_t index) {
    if (paths.empty())
      return std::make_shared<std::vector<uint8_t>>(ResizeAndCrop(images[index], preprocess).rgb);
    try {
      int orientation = 1;
      Pixels pixels = std::make_shared<std::vector<uint8_t>>(
          room.Read(paths[index], preprocess, &orientation, KeptFor(index)).rgb);
      if (orientation != 1 && !preprocess.exif) {
        const std::lock_guard lock(mutex);
        unturned.insert(index);
      }
      return pixels;
    } catch (const std::bad_alloc&) {
      Fail("{}: not enough memory to decode the image", paths[index]);
    } catch (const Error& error) {
      // An error of decoding names the file; one that comes later does not.
      const std::string message = error.what();
      if (message.starts_with(paths[index])) throw;
      Fail("{}: {}", paths[index], message);
    }
  }

  bool HasWork() const { return claimed < order.size() && claimed < taken + slots.size(); }

  void Work() {
    UnbindThread();
    std::unique_lock lock(mutex);
    while (true) {
      work.wait(lock, [this] { return stop || HasWork(); });
      if (stop) return;
      const size_t position = claimed++, index = order[position];
      const uint64_t my_epoch = epoch;
      Slot made{true, index < cache.size() ? cache[index] : nullptr, nullptr};
      if (!made.pixels) {
        lock.unlock();
        try {
          made.pixels = Decode(index);
        } catch (...) {
          made.error = std::current_exception();
        }
        lock.lock();
        if (made.pixels && index < cache.size()) cache[index] = made.pixels;
      }
      if (my_epoch != epoch) continue;
      slots[position % slots.size()] = std::move(made);
      if (position == taken) result.notify_one();
    }
  }
};

ImageLoader::ImageLoader(std::vector<std::string> paths, const Preprocess& preprocess,
                         const LoaderOptions& options)
    : state_(std::make_unique<State>(std::move(paths), std::vector<Image>(), preprocess, options)) {
}

ImageLoader::ImageLoader(std::vector<Image> images, const Preprocess& preprocess,
                         const LoaderOptions& options)
    : state_(std::make_unique<State>(std::vector<std::string>(), std::move(images), preprocess,
                                     options)) {}

ImageLoader::~ImageLoader() { state_->Join(); }

size_t ImageLoader::size() const { return state_->size(); }

size_t ImageLoader::sample_size() const { return state_->sample_bytes; }

void ImageLoader::Start(std::vector<size_t> order) {
  for (size_t index : order) GRAFT_CHECK(index < size(), "example {} of {}", index, size());
  {
    const std::lock_guard lock(state_->mutex);
    ++state_->epoch;
    state_->order = std::move(order);
    state_->claimed = state_->taken = 0;
    for (State::Slot& slot : state_->slots) slot = {};
  }
  state_->work.notify_all();
}

size_t ImageLoader::remaining() const {
  const std::lock_guard lock(state_->mutex);
  return state_->order.size() - state_->taken;
}

void ImageLoader::Take(size_t count, std::vector<Pixels>& out) {
  GRAFT_CHECK(count <= remaining(), "{} samples asked for, {} left", count, remaining());
  for (size_t i = 0; i < count; ++i) {
    State::Slot slot;
    {
      std::unique_lock lock(state_->mutex);
      State::Slot& next = state_->slots[state_->taken % state_->slots.size()];
      state_->result.wait(lock, [&] { return next.ready; });
      slot = std::exchange(next, {});
      ++state_->taken;
      if (slot.error) {  // no further work for this epoch
        ++state_->epoch;
        state_->order.clear();
        state_->claimed = state_->taken = 0;
      }
    }
    state_->work.notify_one();
    if (slot.error) std::rethrow_exception(slot.error);
    out.push_back(std::move(slot.pixels));
  }
}

void ImageLoader::Normalize(const Pixels& sample, float* out) const {
  state_->normalizer.Apply(*sample, out);
}

void ImageLoader::Next(size_t count, float* out) {
  std::vector<Pixels> samples;
  Take(count, samples);
  for (const Pixels& sample : samples) {
    Normalize(sample, out);
    out += sample_size();
  }
}

std::pair<size_t, std::string> ImageLoader::unturned() const {
  const std::lock_guard lock(state_->mutex);
  const std::set<size_t>& all = state_->unturned;
  return {all.size(), all.empty() ? "" : state_->paths[*all.begin()]};
}

size_t ImageLoader::cached() const {
  const std::lock_guard lock(state_->mutex);
  size_t count = 0;
  for (const Pixels& pixels : state_->cache) count += pixels != nullptr;
  return count;
}

}  // namespace graft
