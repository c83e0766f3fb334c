// Images on disk between runs: those that are found are those that decoding gives, whatever other
// processes do, and the folder stays within its bound.
#include "data/image_cache.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <numeric>
#include <thread>

#include "data/loader.h"
#include "runtime/io/cache_folder.h"
#include "runtime/io/file_stamp.h"
#include "runtime/io/sha256.h"
#include "tests/image_test_util.h"

namespace graft::image_cache_test {
namespace {

namespace fs = std::filesystem;

constexpr int kSize = 8;
constexpr size_t kEntry = 65 + 3 * kSize * kSize;
const Preprocess kPreprocess = ParsePreprocess("resize=12,crop=8,filter=bicubic,mean=0.5,std=0.25");

class ImageCacheTest : public ::testing::Test {
 protected:
  std::string Folder() const { return dir_ / "cache"; }
  std::vector<fs::path> Entries() const {
    std::vector<fs::path> entries;
    std::error_code none;
    for (const auto& entry : fs::directory_iterator(Folder(), none)) entries.push_back(entry);
    return entries;
  }
  uint64_t Bytes() const {
    uint64_t bytes = 0;
    for (const fs::path& entry : Entries()) {
      std::error_code gone;
      if (const uint64_t size = fs::file_size(entry, gone); !gone) bytes += size;
    }
    return bytes;
  }
  TempDir dir_;
};

std::span<const std::byte> BytesOfText(const std::string& text) {
  return std::as_bytes(std::span(text));
}

// What a key stands for in these tests.
Image ImageOf(int number) {
  Image image = NoiseImage(static_cast<uint32_t>(number), kSize, kSize);
  image.orientation = 1 + number % 8;
  return image;
}
std::string KeyOf(int number) { return Sha256Hex(BytesOfText(std::to_string(number))); }

TEST_F(ImageCacheTest, FindsWhatWasKept) {
  ImageCache cache(Folder(), 1 << 20), other(Folder(), 1 << 20);
  EXPECT_FALSE(cache.Find(KeyOf(1), kSize));
  for (int i = 0; i < 20; ++i) cache.Keep(KeyOf(i), ImageOf(i));
  for (int i = 0; i < 20; ++i) EXPECT_EQ(other.Find(KeyOf(i), kSize), ImageOf(i));
  EXPECT_EQ(cache.kept(), 20u);
  EXPECT_EQ(other.found(), 20u);
  EXPECT_EQ(Entries().size(), 20u);
  EXPECT_FALSE(other.Find(KeyOf(1), kSize + 1));
  EXPECT_FALSE(other.Find(KeyOf(20), kSize));
}

TEST_F(ImageCacheTest, KeysAreOfContentAndTransform) {
  const ImageCache cache(Folder(), 1 << 20);
  const std::string file = "bytes of an image";
  const std::string key = cache.Key(BytesOfText(file), kPreprocess);
  EXPECT_EQ(key, cache.Key(BytesOfText(file), kPreprocess));
  EXPECT_NE(key, cache.Key(BytesOfText("bytes of an imagf"), kPreprocess));
  EXPECT_NE(key, cache.Key(BytesOfText(file + " "), kPreprocess));
  for (const char* other : {"resize=13,crop=8,filter=bicubic,mean=0.5,std=0.25",
                            "resize=12,crop=9,filter=bicubic,mean=0.5,std=0.25",
                            "resize=12,crop=8,filter=bilinear,mean=0.5,std=0.25",
                            "resize=12,crop=8,filter=bicubic,mean=0.5,std=0.25,fit=both",
                            "resize=12,crop=8,filter=bicubic,mean=0.5,std=0.25,center=floor",
                            "resize=12,crop=8,filter=bicubic,mean=0.5,std=0.25,exif=true"})
    EXPECT_NE(key, cache.Key(BytesOfText(file), ParsePreprocess(other))) << other;
  // Normalisation comes behind the cache.
  EXPECT_EQ(key, cache.Key(BytesOfText(file), ParsePreprocess("resize=12,crop=8,filter=bicubic,"
                                                              "mean=0.1|0.2|0.3,std=1")));
}

TEST_F(ImageCacheTest, ADamagedEntryIsNone) {
  ImageCache cache(Folder(), 1 << 20);
  const std::string path = Folder() + "/" + KeyOf(3);
  cache.Keep(KeyOf(3), ImageOf(3));
  std::ifstream in(path, std::ios::binary);
  const std::string whole((std::istreambuf_iterator<char>(in)), {});
  ASSERT_EQ(whole.size(), kEntry);
  for (const size_t at : {size_t{0}, size_t{63}, size_t{64}, size_t{65}, kEntry - 1}) {
    std::string bad = whole;
    bad[at] ^= 1;
    dir_.Write("cache/" + KeyOf(3), bad);
    EXPECT_FALSE(cache.Find(KeyOf(3), kSize)) << at;
  }
  for (const size_t size : {size_t{0}, size_t{64}, kEntry - 1}) {
    dir_.Write("cache/" + KeyOf(3), whole.substr(0, size));
    EXPECT_FALSE(cache.Find(KeyOf(3), kSize)) << size;
  }
  dir_.Write("cache/" + KeyOf(3), whole + "x");
  EXPECT_FALSE(cache.Find(KeyOf(3), kSize));
  dir_.Write("cache/" + KeyOf(4), whole);  // under the name of another image
  EXPECT_FALSE(cache.Find(KeyOf(4), kSize));
  cache.Keep(KeyOf(3), ImageOf(3));
  EXPECT_EQ(cache.Find(KeyOf(3), kSize), ImageOf(3));
}

TEST_F(ImageCacheTest, StaysWithinItsBoundAndKeepsWhatIsUsed) {
  constexpr size_t kBound = 64 * kEntry;
  ImageCache cache(Folder(), kBound);
  EXPECT_EQ(cache.Room(kSize), 32u);
  for (int i = 0; i < 300; ++i) {
    cache.Keep(KeyOf(i), ImageOf(i));
    ASSERT_LE(Bytes(), kBound) << i;
    ASSERT_TRUE(cache.Find(KeyOf(i), kSize)) << i;
    ASSERT_TRUE(cache.Find(KeyOf(0), kSize)) << i << ": the one that is used most";
    // File systems tell times apart by some milliseconds.
    std::this_thread::sleep_for(std::chrono::milliseconds(i % 4 == 0 ? 5 : 0));
  }
  EXPECT_GT(Bytes(), kBound / 2);
  EXPECT_FALSE(cache.Find(KeyOf(1), kSize));
  ImageCache small(Folder(), 15 * kEntry);  // an entry is more than a sixteenth
  small.Keep(KeyOf(1000), ImageOf(1000));
  EXPECT_FALSE(small.Find(KeyOf(1000), kSize));
}

// Also of the smallest images there are never more than 65,536, which can be looked at in no time.
TEST_F(ImageCacheTest, SmallOnesCountAsLarger) {
  const size_t bound = size_t{1} << 30;
  EXPECT_EQ(ImageCache(Folder(), bound).Room(1), size_t{1} << 15);
  EXPECT_EQ(ImageCache(Folder(), bound).Room(224), bound / 2 / (65 + 3 * 224 * 224));
  for (int i = 0; i < 9; ++i) dir_.Write(fmt::format("small/{}", i), "x");
  KeepNewest(dir_ / "small", 4, 1);
  EXPECT_EQ(std::distance(fs::directory_iterator(dir_ / "small"), {}), 4);
  KeepNewest(dir_ / "small", 4, 2);
  EXPECT_EQ(std::distance(fs::directory_iterator(dir_ / "small"), {}), 2);
}

TEST_F(ImageCacheTest, APlaceThatCannotBeWrittenIsNone) {
  dir_.Write("file", "in the way");
  ImageCache cache(dir_ / "file/cache", 1 << 20);
  cache.Keep(KeyOf(1), ImageOf(1));
  EXPECT_FALSE(cache.Find(KeyOf(1), kSize));
  EXPECT_EQ(cache.kept(), 0u);
  fs::create_directories(Folder() + "/" + KeyOf(2));  // a directory where an entry would be
  ImageCache other(Folder(), 1 << 20);
  other.Keep(KeyOf(2), ImageOf(2));
  EXPECT_FALSE(other.Find(KeyOf(2), kSize));
  EXPECT_EQ(Entries().size(), 1u) << "and nothing is left of the try";
}

// Keeps and finds images in an order of its own; returns whether all that was found was right.
bool Hammer(ImageCache& cache, int seed, int times) {
  bool right = true;
  for (int i = 0; i < times; ++i) {
    const int number = (i * (2 * seed + 3) + seed) % 97;
    if (const auto found = cache.Find(KeyOf(number), kSize))
      right = right && *found == ImageOf(number);
    else
      cache.Keep(KeyOf(number), ImageOf(number));
  }
  return right;
}

TEST_F(ImageCacheTest, ProcessesShareItAndMayDie) {
  constexpr size_t kBound = 64 * kEntry;
  for (int round = 0; round < 8; ++round) {
    std::vector<pid_t> children;
    for (int child = 0; child < 3; ++child) {
      const pid_t pid = fork();
      ASSERT_GE(pid, 0);
      if (pid == 0) {
        ImageCache cache(Folder(), kBound);
        _exit(Hammer(cache, child, child == 0 ? 1 << 20 : 300) ? 0 : 1);
      }
      children.push_back(pid);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(3 + 4 * round));
    kill(children[0], SIGKILL);
    for (size_t i = 0; i < children.size(); ++i) {
      int status = 0;
      waitpid(children[i], &status, 0);
      const bool right = WIFEXITED(status) && WEXITSTATUS(status) == 0;
      EXPECT_TRUE(right || i == 0) << "a wrong image";
    }
    EXPECT_LE(Bytes(), kBound);
  }
  ImageCache cache(Folder(), kBound);
  for (int i = 0; i < 97; ++i)
    EXPECT_EQ(cache.Find(KeyOf(i), kSize).value_or(ImageOf(i)), ImageOf(i));
}

TEST_F(ImageCacheTest, ThreadsShareIt) {
  ImageCache cache(Folder(), 64 * kEntry);
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) threads.emplace_back([&, t] { wrong += !Hammer(cache, t, 400); });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_LE(Bytes(), 64 * kEntry);
}

// --- the loader

std::vector<std::string> WriteImages(const TempDir& folder, uint32_t count) {
  std::vector<std::string> paths;
  for (uint32_t i = 0; i < count; ++i) {
    paths.push_back(folder / fmt::format("{}.png", i));
    WritePng(paths.back(), NoiseImage(i, 9 + static_cast<int>(i % 5), 20));
  }
  return paths;
}

std::vector<float> All(const std::vector<std::string>& paths, std::shared_ptr<ImageCache> cache) {
  ImageLoader loader(paths, kPreprocess, {.threads = 3, .kept = std::move(cache)});
  std::vector<size_t> order(paths.size());
  std::iota(order.begin(), order.end(), 0);
  std::vector<float> all(order.size() * loader.sample_size());
  loader.Start(order);
  loader.Next(order.size(), all.data());
  return all;
}

TEST_F(ImageCacheTest, LoadersTakeWhatOthersHaveDecoded) {
  const std::vector<std::string> paths = WriteImages(dir_, 40);
  const std::vector<float> expected = All(paths, nullptr);
  const auto first = std::make_shared<ImageCache>(Folder(), 1 << 20);
  EXPECT_EQ(All(paths, first), expected);
  EXPECT_EQ(first->kept(), 40u);
  // The files may move.
  TempDir other;
  std::vector<std::string> moved;
  for (size_t i = 0; i < paths.size(); ++i) {
    moved.push_back(other / fmt::format("image-{}", i));
    fs::rename(paths[i], moved.back());
  }
  const auto second = std::make_shared<ImageCache>(Folder(), 1 << 20);
  EXPECT_EQ(All(moved, second), expected);
  EXPECT_EQ(second->found(), 40u);
  EXPECT_EQ(second->kept(), 0u);
  // Another image of the same name is another image.
  WritePng(moved[7], NoiseImage(1000, 9, 20));
  EXPECT_NE(All(moved, second), expected);
  EXPECT_EQ(second->kept(), 1u);
}

// What is said of the files is said of those that are found, too.
TEST_F(ImageCacheTest, OrientationsAreKept) {
  const std::vector<std::string> paths = WriteImages(dir_, 3);
  std::vector<std::string> all = paths;
  all.push_back((kImageFixtures / "rgb_exif_turned.jpg").string());
  for (int run = 0; run < 2; ++run) {
    const auto cache = std::make_shared<ImageCache>(Folder(), 1 << 20);
    ImageLoader loader(all, kPreprocess, {.threads = 2, .kept = cache});
    loader.Start({3, 1});
    std::vector<float> out(2 * loader.sample_size());
    loader.Next(2, out.data());
    EXPECT_EQ(cache->found(), run == 0 ? 0u : 2u);
    EXPECT_EQ(loader.unturned(), (std::pair{size_t{1}, all[3]}));
  }
}

// Of more images than have room the first ones are kept, so that the others do not push them out.
TEST_F(ImageCacheTest, OfALargeDataSetTheFirstAreKept) {
  const std::vector<std::string> paths = WriteImages(dir_, 40);
  const std::vector<float> expected = All(paths, nullptr);
  const auto cache = std::make_shared<ImageCache>(Folder(), 50 * kEntry);
  for (const size_t found : {0, 25, 50}) {
    EXPECT_EQ(All(paths, cache), expected);
    EXPECT_EQ(cache->found(), found);
    EXPECT_EQ(cache->kept(), 25u);
  }
}

// --- folders and sizes

TEST(CacheFolder, Sizes) {
  EXPECT_EQ(BytesIn("1.5KiB"), size_t{1536});
  EXPECT_EQ(BytesIn("2e9"), size_t{2'000'000'000});
  for (const char* bad : {"", "0", "-1", "1 KiB", "KiB", "1e30", "nan", "1kib"})
    EXPECT_EQ(BytesIn(bad), std::nullopt) << bad;
  unsetenv("GRAFT_TEST_CACHE");
  EXPECT_EQ(CacheBound("GRAFT_TEST_CACHE", 7), 7u);
  for (const auto& [text, bytes] : {std::pair("0", 0), {"2KB", 2000}}) {
    setenv("GRAFT_TEST_CACHE", text, 1);
    EXPECT_EQ(CacheBound("GRAFT_TEST_CACHE", 7), static_cast<size_t>(bytes)) << text;
  }
  setenv("GRAFT_TEST_CACHE", "2 GiB", 1);
  EXPECT_THAT(MessageOf([] { CacheBound("GRAFT_TEST_CACHE", 7); }),
              ::testing::HasSubstr("GRAFT_TEST_CACHE='2 GiB': expected bytes, such as 2GiB"));
  unsetenv("GRAFT_TEST_CACHE");
}

TEST(CacheFolder, TheUsersCacheHasABoundOrIsNone) {
  const TempDir home;
  setenv("XDG_CACHE_HOME", home.path().c_str(), 1);
  unsetenv("GRAFT_IMAGE_CACHE");
  ASSERT_TRUE(ImageCache::OfUser());
  EXPECT_EQ(ImageCache::OfUser()->Room(224), kImageCacheBytes / 2 / (65 + 3 * 224 * 224));
  setenv("GRAFT_IMAGE_CACHE", "1MiB", 1);
  EXPECT_EQ(ImageCache::OfUser()->Room(kSize), (size_t{1} << 19) / kEntry);
  setenv("GRAFT_IMAGE_CACHE", "0", 1);
  EXPECT_FALSE(ImageCache::OfUser());
  unsetenv("GRAFT_IMAGE_CACHE"), unsetenv("XDG_CACHE_HOME");
}

}  // namespace
}  // namespace graft::image_cache_test
