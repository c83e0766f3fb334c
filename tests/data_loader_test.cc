// Tests the loader's order, cache, errors and shutdown. Run it under ThreadSanitizer too.
#include <gmock/gmock.h>

#include <algorithm>
#include <numeric>

#include "data/loader.h"
#include "tests/image_test_util.h"

namespace graft::data_loader_test {
namespace {

using ::testing::HasSubstr;

constexpr size_t kImages = 37;
const Preprocess kPreprocess = ParsePreprocess("resize=12,crop=8,filter=bicubic,mean=0.5,std=0.25");

std::vector<Image> Images() {
  std::vector<Image> images;
  for (uint32_t i = 0; i < kImages; ++i)
    images.push_back(NoiseImage(i, 9 + static_cast<int>(i % 5), 20 - static_cast<int>(i % 7)));
  return images;
}

std::vector<std::string> WriteImages(const TempDir& folder) {
  std::vector<std::string> paths;
  for (const Image& image : Images()) {
    paths.push_back(folder / fmt::format("{}.png", paths.size()));
    WritePng(paths.back(), image);
  }
  return paths;
}

// Reads all samples of an order in batches of `batch`.
std::vector<float> Epoch(ImageLoader& loader, const std::vector<size_t>& order, size_t batch) {
  std::vector<float> out(order.size() * loader.sample_size());
  loader.Start(order);
  for (size_t at = 0; loader.remaining() > 0;) {
    const size_t count = std::min(batch, loader.remaining());
    loader.Next(count, out.data() + at * loader.sample_size());
    at += count;
  }
  return out;
}

std::vector<float> Expected(const std::vector<size_t>& order) {
  const std::vector<Image> images = Images();
  std::vector<float> all;
  for (size_t index : order) {
    const std::vector<float> one = Apply(images[index], kPreprocess);
    all.insert(all.end(), one.begin(), one.end());
  }
  return all;
}

std::vector<size_t> SomeOrder(size_t length, size_t step) {
  std::vector<size_t> order(length);
  for (size_t i = 0; i < length; ++i) order[i] = (i * step + 3) % kImages;  // with repetitions
  return order;
}

TEST(Loader, OrderDoesNotDependOnThreadsQueueOrCache) {
  const TempDir folder;
  const std::vector<std::string> paths = WriteImages(folder);
  const size_t sample = 3 * 8 * 8;
  for (int threads : {1, 2, 5})
    for (size_t ahead : {1u, 3u, 200u})
      for (size_t cached : {size_t{0}, size_t{10}, size_t{1000}}) {
        ImageLoader loader(paths, kPreprocess,
                           {.threads = threads, .cache_bytes = cached * sample, .ahead = ahead});
        for (size_t step : {1, 5, 11}) {
          const std::vector<size_t> order = SomeOrder(90, step);
          EXPECT_EQ(Epoch(loader, order, 16), Expected(order)) << threads << " threads";
        }
        EXPECT_EQ(loader.cached(), std::min(cached, kImages));
      }
}

TEST(Loader, FromMemory) {
  ImageLoader loader(Images(), kPreprocess, {.threads = 2});
  EXPECT_EQ(loader.size(), kImages);
  EXPECT_EQ(loader.sample_size(), 3u * 8 * 8);
  const std::vector<size_t> order = SomeOrder(40, 7);
  EXPECT_EQ(Epoch(loader, order, 1), Expected(order));
}

TEST(Loader, SecondEpochReadsNoFiles) {
  const TempDir folder;
  ImageLoader loader(WriteImages(folder), kPreprocess, {.threads = 2, .cache_bytes = 1 << 20});
  std::vector<size_t> order(kImages);
  std::iota(order.begin(), order.end(), 0);
  Epoch(loader, order, 8);
  for (const auto& entry : std::filesystem::directory_iterator(folder.path()))
    std::filesystem::remove(entry);
  EXPECT_EQ(Epoch(loader, order, 8), Expected(order));
}

// Whatever room there is to decode in: less than one image needs, for one, for all.
TEST(Loader, ImagesWaitForRoom) {
  const TempDir folder;
  const std::vector<std::string> paths = WriteImages(folder);
  for (const int64_t room : {int64_t{1}, int64_t{400'000}, int64_t{4'000'000}, int64_t{1} << 40}) {
    ImageLoader loader(paths, kPreprocess, {.threads = 5, .ahead = 8, .decode = {.bytes = room}});
    const std::vector<size_t> order = SomeOrder(90, 7);
    EXPECT_EQ(Epoch(loader, order, 16), Expected(order)) << room;
  }
}

TEST(Loader, AnImageBeyondTheBudgetIsAnError) {
  const TempDir folder;
  WritePng(folder / "large.png", Image{3000, 1000, std::vector<uint8_t>(9'000'000)});
  ImageLoader loader({folder / "large.png"}, kPreprocess, {.decode = {.limit = 8 << 20}});
  std::vector<float> out(loader.sample_size());
  loader.Start({0});
  const std::string message = MessageOf([&] { loader.Next(1, out.data()); });
  EXPECT_THAT(message, HasSubstr("large.png: decoding takes "));
  EXPECT_THAT(message, HasSubstr("MiB, more than the memory budget of 8.0 MiB"));
}

// What is given is used, and never more.
TEST(Loader, OptionsStayWithinTheirBytes) {
  for (const size_t sample : {size_t{3072}, size_t{150'528}, size_t{50'331'648}})
    for (const size_t more : {size_t{0}, size_t{1000}, size_t{5} << 20, size_t{1} << 30})
      for (const bool again : {false, true}) {
        const LoaderOptions o = OptionsWithin(more, sample, 1000, again);
        const size_t bytes = BytesOf(o, sample);
        EXPECT_LE(bytes, LeastLoaderBytes(sample) + more) << sample << " " << more;
        EXPECT_GE(bytes, LeastLoaderBytes(sample));
        EXPECT_GE(o.ahead, 1u);
        EXPECT_LE(o.cache_bytes, again ? 1000 * sample : 0);
        if (again && more == size_t{1} << 30 && sample == 150'528) {
          EXPECT_EQ(o.cache_bytes, 1000 * sample);
        }
      }
}

TEST(Loader, ErrorArrivesAtItsPlaceAndTheLoaderLivesOn) {
  const TempDir folder;
  std::vector<std::string> paths = WriteImages(folder);
  folder.Write("20.png", "broken");
  for (int threads : {1, 4}) {
    ImageLoader loader(paths, kPreprocess, {.threads = threads, .ahead = 64});
    std::vector<float> out(kImages * loader.sample_size());
    std::vector<size_t> order(kImages);
    std::iota(order.begin(), order.end(), 0);
    loader.Start(order);
    loader.Next(20, out.data());  // those before it are delivered
    EXPECT_THAT(MessageOf([&] { loader.Next(1, out.data()); }),
                HasSubstr("20.png: expected an image"));
    EXPECT_EQ(loader.remaining(), 0u);
    const std::vector<size_t> good = {1, 2, 3};
    EXPECT_EQ(Epoch(loader, good, 2), Expected(good));
  }
}

TEST(Loader, ErrorOfPreprocessingNamesTheFile) {
  const TempDir folder;
  WritePng(folder / "narrow.png", NoiseImage(1, 16384, 1));
  ImageLoader loader({folder / "narrow.png"}, ParsePreprocess("imagenet"));
  std::vector<float> out(loader.sample_size());
  loader.Start({0});
  EXPECT_THAT(MessageOf([&] { loader.Next(1, out.data()); }),
              HasSubstr("narrow.png: an image of 16384 x 1 pixels is too narrow"));
}

TEST(Loader, AbandonedEpochsAndDestruction) {
  const TempDir folder;
  const std::vector<std::string> paths = WriteImages(folder);
  for (size_t round = 0; round < 30; ++round) {
    ImageLoader loader(paths, kPreprocess, {.threads = 3, .cache_bytes = 0, .ahead = 4});
    if (round % 3 == 0) continue;  // never started
    std::vector<float> out(kImages * loader.sample_size());
    loader.Start(SomeOrder(80, 1));
    loader.Next(round % 5, out.data());
    if (round % 3 == 1) continue;  // destroyed in the middle
    const std::vector<size_t> order = SomeOrder(20, 3);
    EXPECT_EQ(Epoch(loader, order, 6), Expected(order));
  }
}

TEST(Loader, EmptyOrder) {
  ImageLoader loader(Images(), kPreprocess);
  loader.Start({});
  EXPECT_EQ(loader.remaining(), 0u);
  loader.Next(0, nullptr);
}

}  // namespace
}  // namespace graft::data_loader_test
