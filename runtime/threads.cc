#include "runtime/threads.h"

#include <atomic>

#include "runtime/cpu.h"
#include "runtime/error.h"

namespace graft {
namespace {

std::atomic<int> g_threads{0};  // 0 until it is asked for

}  // namespace

int Threads() {
  int threads = g_threads.load(std::memory_order_relaxed);
  if (threads == 0) {
    threads = DefaultThreads();
    g_threads.store(threads, std::memory_order_relaxed);
  }
  return threads;
}

void SetThreads(int threads) {
  if (threads < 1) Fail("expected at least 1 thread, found {}", threads);
  g_threads.store(threads, std::memory_order_relaxed);
}

}  // namespace graft
