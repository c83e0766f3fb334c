// Parallel loops over chunks. The caller fixes the chunks by the shape of its data and never by the
// number of threads, so results are the same bits for any number of them.
#pragma once
#ifndef GRAFT_STD_THREADS
#include <omp.h>
#endif

#include <algorithm>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <vector>

namespace graft {

// How many threads a ParallelFor may use: DefaultThreads() of cpu.h until SetThreads is called.
// SetThreads is for the start of a program and for tests, not for use inside a loop.
int Threads();
void SetThreads(int threads);  // at least 1

// The number of threads of the parallel loop that the caller is in, and the caller's own number
// among them; 1 and 0 outside of a loop.
#ifdef GRAFT_STD_THREADS
int LoopThreads();
int LoopThread();
// A parallel loop on std::thread. It is slower, but the thread sanitizer understands it, while it
// does not understand OpenMP's runtime.
void RunOnThreads(int threads, int64_t chunks, void (*f)(const void* context, int64_t i),
                  const void* context) noexcept;
#else
inline int LoopThreads() { return omp_get_num_threads(); }
inline int LoopThread() { return omp_get_thread_num(); }
#endif

// Memory that each thread inside a kernel has to itself. The session decides how many threads there
// is room for, so that no plan depends on it.
struct ThreadScratch {
  std::byte* data = nullptr;  // 64-byte aligned, of the first thread
  size_t bytes = 0;           // from one thread's to the next's, a multiple of 64
  int threads = 1;            // the most that may work at once
  std::byte* of(int thread) const { return data + static_cast<size_t>(thread) * bytes; }
};

// Calls f(i, t) for i in [0, chunks), in any order, on up to Threads() threads and at most `most`:
// t in [0, most) is a number that no other call has at the same time, for work that wants memory of
// its thread's own. With one chunk or one thread, or inside another loop of these, the calls are
// made in order on the calling thread, and t is 0. `f` must not throw: an exception cannot leave
// the loop and ends the program.
template <class F>
void ParallelForThreads(int64_t chunks, int most, const F& f) noexcept {
  const int threads = static_cast<int>(std::min<int64_t>({Threads(), chunks, most}));
  if (threads <= 1 || LoopThreads() > 1) {
    for (int64_t i = 0; i < chunks; ++i) f(i, 0);
    return;
  }
#ifdef GRAFT_STD_THREADS
  RunOnThreads(
      threads, chunks,
      [](const void* context, int64_t i) { (*static_cast<const F*>(context))(i, LoopThread()); },
      &f);
#else
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
  for (int64_t i = 0; i < chunks; ++i) f(i, LoopThread());
#endif
}

// Calls f(i) on any of the threads, for work that needs no memory of its thread's own.
template <class F>
void ParallelFor(int64_t chunks, const F& f) noexcept {
  ParallelForThreads(chunks, INT_MAX, [&](int64_t i, int) { f(i); });
}

constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The items [begin, begin + size) of the p-th of `parts` pieces of `items`; sizes differ by at most
// one.
struct Piece {
  int64_t begin, size;
};
constexpr Piece EvenPiece(int64_t items, int64_t parts, int64_t p) {
  const int64_t begin = items * p / parts;
  return {begin, items * (p + 1) / parts - begin};
}

// The same for work that may throw: the error of the first chunk that has one is thrown here, when
// all calls are done, whichever thread comes first.
template <class F>
void ParallelForThrowing(int64_t chunks, const F& f) {
  std::vector<std::exception_ptr> errors(static_cast<size_t>(chunks));
  ParallelFor(chunks, [&](int64_t i) {
    try {
      f(i);
    } catch (...) {
      errors[static_cast<size_t>(i)] = std::current_exception();
    }
  });
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
}

// Cuts [0, rows) into pieces of `chunk` rows; the last one may be shorter.
//   const FixedChunks cut(rows, 1024);
//   ParallelFor(cut.count(), [&](int64_t i) { for (r = cut.begin(i); r < cut.end(i); ++r) ... });
struct FixedChunks {
  int64_t rows, chunk;
  constexpr FixedChunks(int64_t r, int64_t c) : rows(r), chunk(c) {}
  constexpr int64_t count() const { return CeilDiv(rows, chunk); }
  constexpr int64_t begin(int64_t i) const { return i * chunk; }
  constexpr int64_t end(int64_t i) const { return std::min(rows, (i + 1) * chunk); }
};

}  // namespace graft
