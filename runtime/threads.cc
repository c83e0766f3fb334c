#include "runtime/threads.h"

#ifdef GRAFT_STD_THREADS
#include <omp.h>
#endif

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "runtime/cpu.h"
#include "runtime/error.h"

namespace graft {
namespace {

std::atomic<int> g_threads{0};  // 0 until it is asked for

#ifdef GRAFT_STD_THREADS
constexpr int kLeastThreads = 3;  // races are looked for, on machines of one core too
#else
constexpr int kLeastThreads = 1;
#endif

}  // namespace

int Threads() {
  int threads = g_threads.load(std::memory_order_relaxed);
  if (threads == 0) {
    threads = std::max(kLeastThreads, DefaultThreads());
    g_threads.store(threads, std::memory_order_relaxed);
  }
  return threads;
}

void SetThreads(int threads) {
  if (threads < 1) Fail("expected at least 1 thread, found {}", threads);
  g_threads.store(threads, std::memory_order_relaxed);
}

#ifdef GRAFT_STD_THREADS
namespace {

thread_local int t_threads = 1, t_number = 0;

// What the threads of a loop know of it while they are in it. The setting of OpenMP keeps oneDNN
// from starting threads of its own: it asks OpenMP, which does not know of this loop.
struct InLoop {
  int saved = omp_get_max_threads();
  InLoop(int threads, int number) {
    t_threads = threads, t_number = number;
    omp_set_num_threads(1);
  }
  ~InLoop() {
    t_threads = 1, t_number = 0;
    omp_set_num_threads(saved);
  }
};

}  // namespace

int LoopThreads() { return t_threads; }
int LoopThread() { return t_number; }

void RunOnThreads(int threads, int64_t chunks, void (*f)(const void* context, int64_t i),
                  const void* context) noexcept {
  // The order is relaxed, so that the counter does not order what the chunks do, which would hide
  // their races.
  std::atomic<int64_t> next{0};
  const auto work = [&](int number) {
    const InLoop loop(threads, number);
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < chunks;) f(context, i);
  };
  std::vector<std::thread> others;
  for (int number = 1; number < threads; ++number) others.emplace_back(work, number);
  work(0);
  for (std::thread& other : others) other.join();
}
#endif

}  // namespace graft
