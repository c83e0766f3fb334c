// Milliseconds for an image of a task, read by one thread: decoded, resized and cropped, or found
// on disk as an earlier run has kept it.
//   GRAFT_DATA=DIR image_cache_bench [TASK...]   (default: caltech101 cifar10)
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <numeric>

#include "data/dataset.h"
#include "data/loader.h"
#include "runtime/error.h"

namespace graft {
namespace {

void ReadAll(const std::vector<std::string>& paths, const std::shared_ptr<ImageCache>& cache) {
  ImageLoader loader(paths, ParsePreprocess("vtab"), {.kept = cache});
  std::vector<size_t> order(paths.size());
  std::iota(order.begin(), order.end(), size_t{0});
  loader.Start(order);
  std::vector<Pixels> samples;
  loader.Take(order.size(), samples);
  benchmark::DoNotOptimize(samples.data());
}

void Register(const std::string& task) {
  const char* root = std::getenv("GRAFT_DATA");
  const std::string folder = fmt::format("{}/data/vtab-1k/{}", root ? root : ".", task);
  std::vector<std::string> paths;
  for (const Example& e : ImageDataset(folder).Load("train800val200", 400).examples)
    paths.push_back(e.path);
  for (const bool kept : {false, true})
    benchmark::RegisterBenchmark(
        fmt::format("{}/{}", task, kept ? "found" : "decoded").c_str(),
        [paths, kept](benchmark::State& state) {
          const std::string cache = std::filesystem::temp_directory_path() /
                                    fmt::format("graft-image-cache-bench-{}", getpid());
          std::shared_ptr<ImageCache> images;
          if (kept) images = std::make_shared<ImageCache>(cache, kImageCacheBytes);
          ReadAll(paths, images);
          for (auto _ : state) ReadAll(paths, images);
          state.counters["images"] = static_cast<double>(paths.size());
          state.counters["ms_of_one"] = benchmark::Counter(
              1e-3 * static_cast<double>(paths.size()),
              benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
          std::filesystem::remove_all(cache);
        })
        ->Iterations(3)
        ->MeasureProcessCPUTime()
        ->Unit(benchmark::kMillisecond);
}

}  // namespace
}  // namespace graft

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (argc == 1)
    for (const char* task : {"caltech101", "cifar10"}) graft::Register(task);
  for (int i = 1; i < argc; ++i) graft::Register(argv[i]);
  benchmark::RunSpecifiedBenchmarks();
}
