#include "data/loader.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <new>
#include <set>
#include <thread>
#include <utility>

#include "runtime/error.h"

namespace graft {
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
  size_t cache_limit;  // examples below this index are cached

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
        normalizer(p) {
    GRAFT_CHECK(o.threads > 0 && o.ahead > 0);
    sample_bytes = size_t{3} * static_cast<size_t>(p.size()) * static_cast<size_t>(p.size());
    cache_limit = o.cache_bytes / sample_bytes;
    slots.resize(o.ahead);
    cache.resize(std::min(cache_limit, size()));
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

  Pixels Decode(size_t index) {
    if (paths.empty())
      return std::make_shared<std::vector<uint8_t>>(ResizeAndCrop(images[index], preprocess).rgb);
    try {
      const Image image = ReadImage(paths[index]);
      if (image.orientation != 1 && !preprocess.exif) {
        const std::lock_guard lock(mutex);
        unturned.insert(index);
      }
      return std::make_shared<std::vector<uint8_t>>(ResizeAndCrop(image, preprocess).rgb);
    } catch (const std::bad_alloc&) {
      Fail("{}: not enough memory to decode the image", paths[index]);
    } catch (const Error& error) {
      // Decoding names the file; what comes after it does not.
      const std::string message = error.what();
      if (message.starts_with(paths[index])) throw;
      Fail("{}: {}", paths[index], message);
    }
  }

  bool HasWork() const { return claimed < order.size() && claimed < taken + slots.size(); }

  void Work() {
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
