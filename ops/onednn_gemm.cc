#include "ops/onednn_gemm.h"

#include <omp.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <oneapi/dnnl/dnnl.hpp>
#include <span>
#include <utility>
#include <vector>

#include "runtime/error.h"
#include "runtime/threads.h"

namespace graft {
namespace {

using dnnl::memory;

constexpr int64_t kBlockRows = 128;  // at most; blocks are even, so 197 rows are 99 + 98

const dnnl::engine& Engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

// oneDNN sizes its scratch by the OpenMP setting of the thread that creates a primitive, and may
// start threads of its own. Here the only parallel loop is ours.
struct OneThread {
  int saved = omp_get_max_threads();
  OneThread() { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(saved); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;
};

// Element (r, c) is at c * ld + r if transposed, else at r * ld + c.
memory::desc Matrix(int64_t rows, int64_t cols, bool transposed, int64_t ld) {
  const memory::dims strides = transposed ? memory::dims{1, ld} : memory::dims{ld, 1};
  return {{rows, cols}, memory::data_type::f32, strides};
}

// The stride of A. A transposed A is [k, m], whatever part of m a block takes.
int64_t StrideOfA(const OnednnShape& s) { return s.a_transposed ? s.m : s.k; }

memory::desc PlainB(const OnednnShape& s) {
  return Matrix(s.k, s.n, s.b_transposed, s.b_transposed ? s.k : s.n);
}

dnnl::primitive_attr Attributes(const OnednnShape& s) {
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  dnnl::post_ops ops;
  if (s.activation != Activation::kNone) {
    const auto kind = s.activation == Activation::kGeluErf ? dnnl::algorithm::eltwise_gelu_erf
                                                           : dnnl::algorithm::eltwise_gelu_tanh;
#if DNNL_VERSION_MAJOR >= 3
    ops.append_eltwise(kind, 0, 0);
#else
    ops.append_eltwise(1, kind, 0, 0);
#endif
  }
  if (s.residual) ops.append_sum(1);  // C holds the residual before
  attr.set_post_ops(ops);
  return attr;
}

dnnl::matmul::primitive_desc Describe(const OnednnShape& s, int64_t rows) {
  const memory::desc a = Matrix(rows, s.k, s.a_transposed, StrideOfA(s));
  const memory::desc b =
      s.packed_b ? memory::desc({s.k, s.n}, memory::data_type::f32, memory::format_tag::any)
                 : PlainB(s);
  const memory::desc c = Matrix(rows, s.n, false, s.n);
  const memory::desc bias({1, s.n}, memory::data_type::f32, memory::format_tag::ab);
  const dnnl::primitive_attr attr = Attributes(s);
#if DNNL_VERSION_MAJOR >= 3
  if (s.bias) return {Engine(), a, b, bias, c, attr};
  return {Engine(), a, b, c, attr};
#else
  if (s.bias) return {dnnl::matmul::desc(a, b, bias, c), attr, Engine()};
  return {dnnl::matmul::desc(a, b, c), attr, Engine()};
#endif
}

size_t RoundUp(size_t bytes) { return (bytes + 63) / 64 * 64; }

// Without memory the program ends and says why (std::terminate).
void CheckExecuted(dnnl_status_t status) {
  if (status == dnnl_out_of_memory) throw std::bad_alloc();
  GRAFT_CHECK(status == dnnl_success, "oneDNN status {}", static_cast<int>(status));
}

}  // namespace

struct OnednnGemm::Impl {
  OnednnShape shape;
  int64_t block = 0;
  dnnl::matmul::primitive_desc desc;
  dnnl::matmul primitive;
  memory::desc a, b, c, bias, scratch;
  size_t pad_bytes = 0;     // tail of A, tail of C
  size_t thread_bytes = 0;  // scratchpad of one thread
  int threads = 1;

  // What one thread executes with. It is made once, so that a step allocates nothing of ours and
  // throws nothing.
  struct alignas(64) Slot {
    dnnl::stream stream;
    memory a, b, c, bias, scratch;
    std::array<dnnl_exec_arg_t, 5> args;
    int count = 0;
    mutable std::atomic_flag taken = ATOMIC_FLAG_INIT;
  };
  std::unique_ptr<Slot[]> slots;

  void MakeSlots() {
    slots = std::make_unique<Slot[]>(threads);
    for (Slot& slot : std::span(slots.get(), threads)) {
      slot.stream = dnnl::stream(Engine());
      const auto add = [&](memory& m, const memory::desc& d, int index) {
        m = memory(d, Engine(), nullptr);
        slot.args[slot.count++] = {index, m.get()};
      };
      add(slot.a, a, DNNL_ARG_SRC), add(slot.b, b, DNNL_ARG_WEIGHTS), add(slot.c, c, DNNL_ARG_DST);
      add(slot.scratch, scratch, DNNL_ARG_SCRATCHPAD);
      if (shape.bias) add(slot.bias, bias, DNNL_ARG_BIAS);
    }
  }

  // A slot that nobody has. In one session every thread gets its own at once; sessions of the same
  // shape that run at the same time may take it from each other, for as long as one product takes.
  const Slot& TakeSlot(int thread) const noexcept {
    for (int i = thread % threads;; i = (i + 1) % threads)
      if (const Slot& slot = slots[i]; !slot.taken.test_and_set(std::memory_order_acquire))
        return slot;
  }

  void Execute(int thread, const float* from, const void* weights, const float* row, float* to,
               std::byte* scratchpad) const noexcept {
    const OneThread one;
    const Slot& slot = TakeSlot(thread);
    const auto point = [](const memory& m, const void* p) {
      const dnnl_status_t status = dnnl_memory_set_data_handle(m.get(), const_cast<void*>(p));
      GRAFT_CHECK(status == dnnl_success);
    };
    point(slot.a, from), point(slot.b, weights), point(slot.c, to), point(slot.scratch, scratchpad);
    if (shape.bias) point(slot.bias, row);
    CheckExecuted(
        dnnl_primitive_execute(primitive.get(), slot.stream.get(), slot.count, slot.args.data()));
    slot.taken.clear(std::memory_order_release);
  }
};

namespace {

// oneDNN 2.6 does not check whether it got the pages that it writes a kernel's code to, and crashes
// where it did not. So they must be available before it asks.
void NeedPagesForCode() {
  constexpr size_t kBytes = size_t{8} << 20;
  void* pages = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) throw std::bad_alloc();
  munmap(pages, kBytes);
}

// The code of all gemm:jit kernels is made in the first such product of the process (26 ms). In a
// step, others take memory meanwhile, and nothing can be refused; so this is that product.
void MakeKernelsOfGemm() {
  static const bool made = [] {
    constexpr dnnl_dim_t kSide = 64;
    std::vector<float> x(3 * kSide * kSide);
    float *a = x.data(), *b = a + kSide * kSide, *c = b + kSide * kSide;
    CheckExecuted(dnnl_sgemm('N', 'N', kSide, kSide, kSide, 1, a, kSide, b, kSide, 0, c, kSide));
    return true;
  }();
  static_cast<void>(made);
}

}  // namespace

// Returns null where Prepare returns nothing.
std::shared_ptr<const OnednnGemm::Impl> OnednnGemm::Make(const OnednnShape& shape) {
  NeedPagesForCode();
  const OneThread one;
  try {
    auto impl = std::make_shared<Impl>();
    impl->shape = shape;
    const int64_t blocks = CeilDiv(shape.m, kBlockRows);
    impl->block = CeilDiv(shape.m, blocks);
    impl->desc = Describe(shape, impl->block);
    if (std::strstr(impl->desc.impl_info_str(), "ref") != nullptr) return nullptr;
    if (std::strstr(impl->desc.impl_info_str(), "gemm:jit") != nullptr) MakeKernelsOfGemm();
    impl->primitive = dnnl::matmul(impl->desc);
    impl->a = impl->desc.src_desc();
    impl->b = impl->desc.weights_desc();
    impl->c = impl->desc.dst_desc();
    if (shape.bias) impl->bias = impl->desc.bias_desc();
    impl->scratch = impl->desc.scratchpad_desc();
    const size_t rows = static_cast<size_t>(impl->block);
    const size_t a_lines = shape.a_transposed ? static_cast<size_t>(shape.k) : rows;
    impl->pad_bytes = RoundUp(4 * a_lines * static_cast<size_t>(StrideOfA(shape))) +
                      RoundUp(4 * rows * static_cast<size_t>(shape.n));
    impl->thread_bytes = RoundUp(impl->scratch.get_size());
    impl->threads = std::max(1, Threads());
    impl->MakeSlots();
    return impl;
  } catch (const dnnl::error& e) {
    if (e.status == dnnl_out_of_memory) throw std::bad_alloc();  // not another kernel's bits
    return nullptr;  // no implementation for this CPU, or for its --isa limit
  }
}

// A supernet compiles a graph for each step, with hundreds of products of few shapes: all of a
// shape are one.
std::optional<OnednnGemm> OnednnGemm::Prepare(const OnednnShape& shape) {
  if (shape.m <= 0 || shape.k <= 0 || shape.n <= 0) return std::nullopt;
  using Key = std::pair<OnednnShape, int>;  // and the threads
  constexpr size_t kMost = 1024;
  static std::mutex mutex;
  // Never destroyed, as it may outlive what oneDNN needs for that.
  static auto& made = *new std::map<Key, std::shared_ptr<const Impl>>;
  OnednnGemm gemm;
  {
    const std::lock_guard lock(mutex);
    if (made.size() > kMost) made.clear();  // those in use stay alive
    const auto [it, fresh] = made.try_emplace({shape, std::max(1, Threads())});
    if (fresh) {
      try {
        it->second = Make(shape);
      } catch (...) {
        made.erase(it);
        throw;
      }
    }
    gemm.impl_ = it->second;
  }
  if (!gemm.impl_) return std::nullopt;
  return gemm;
}

std::string OnednnGemm::implementation() const { return impl_->desc.impl_info_str(); }

size_t OnednnGemm::packed_bytes() const { return impl_->shape.packed_b ? impl_->b.get_size() : 0; }

size_t OnednnGemm::scratch_bytes() const { return impl_->pad_bytes; }

size_t OnednnGemm::thread_bytes() const { return impl_->thread_bytes; }

void OnednnGemm::Pack(const float* b, void* packed) const {
  const OneThread one;
  const OnednnShape& s = impl_->shape;
  memory from(PlainB(s), Engine(), const_cast<float*>(b));
  memory to(impl_->b, Engine(), packed);
  dnnl::stream stream(Engine());
  dnnl::reorder(from, to).execute(stream, from, to);
  stream.wait();
}

void OnednnGemm::Run(int64_t m, const float* a, const void* b, const float* bias,
                     const float* residual, float* c, std::byte* scratch,
                     const ThreadScratch& own) const noexcept {
  const Impl& impl = *impl_;
  const OnednnShape& s = impl.shape;
  GRAFT_CHECK(m <= s.m, "{} rows, prepared for {}", m, s.m);
  const int64_t lda = StrideOfA(s);
  const FixedChunks cut(m, impl.block);
  const int most = impl.thread_bytes ? own.threads : impl.threads;
  const size_t row_bytes = static_cast<size_t>(s.n) * sizeof(float);
  ParallelForThreads(cut.count(), most, [&](int64_t i, int slot) {
    const int64_t begin = cut.begin(i), rows = cut.end(i) - begin;
    const int thread = LoopThread();  // also among the threads outside this call
    GRAFT_CHECK(thread < impl.threads, "prepared for {} threads", impl.threads);
    std::byte* mine = own.of(slot);
    const float* from = a + begin * (s.a_transposed ? 1 : lda);
    float* to = c + begin * s.n;
    if (s.residual && residual != c) {
      for (int64_t r = 0; r < rows; ++r) {
        std::memcpy(to + r * s.n, residual + (begin + r) * s.n, row_bytes);
      }
    }
    if (rows == impl.block) return impl.Execute(thread, from, b, bias, to, mine);
    // The last rows do not fill a block; zero rows are added in the scratch.
    float* pad_a = reinterpret_cast<float*>(scratch);
    const int64_t lines = s.a_transposed ? s.k : rows, length = s.a_transposed ? rows : s.k;
    const int64_t a_lines = s.a_transposed ? s.k : impl.block;
    const size_t a_bytes = RoundUp(static_cast<size_t>(4 * lda * a_lines));
    float* pad_c = reinterpret_cast<float*>(scratch + a_bytes);
    std::memset(scratch, 0, impl.pad_bytes);
    for (int64_t r = 0; r < lines; ++r) {
      std::memcpy(pad_a + r * lda, from + r * lda, static_cast<size_t>(length) * sizeof(float));
    }
    for (int64_t r = 0; s.residual && r < rows; ++r) {
      std::memcpy(pad_c + r * s.n, to + r * s.n, row_bytes);
    }
    impl.Execute(thread, pad_a, b, bias, pad_c, mine);
    for (int64_t r = 0; r < rows; ++r) std::memcpy(to + r * s.n, pad_c + r * s.n, row_bytes);
  });
}

bool CapOnednnIsa(const std::string& isa) {
  if (isa.empty()) return true;
  constexpr std::pair<const char*, dnnl::cpu_isa> kCaps[] = {
      {"sse4", dnnl::cpu_isa::sse41},
      {"avx2", dnnl::cpu_isa::avx2},
      {"avx512", dnnl::cpu_isa::avx512_core}};
  for (const auto& [name, cap] : kCaps)
    if (isa == name) return dnnl::set_max_cpu_isa(cap) == dnnl::status::success;
  return false;
}

}  // namespace graft
