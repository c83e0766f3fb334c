#include "ops/gemm_core.h"

#include <algorithm>
#include <climits>

#include "ops/low_cells.h"
#include "ops/targets.h"
#include "runtime/error.h"
#include "runtime/threads.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/gemm_core.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "ops/gemm_finish-inl.h"
#include "ops/gemm_micro-inl.h"
#include "ops/gemm_pack-inl.h"

#ifndef GRAFT_OPS_GEMM_CORE_ONCE_
#define GRAFT_OPS_GEMM_CORE_ONCE_
namespace graft {
namespace {

struct TileSize {
  int64_t rows, cols;
};

constexpr int64_t kShallowFloats = 6144;  // 24 KB
constexpr int64_t kMostDepth = 384;       // rows of B in a block, on any target, but of bytes
constexpr int64_t kLeastFetching = 32;    // in fewer, what is fetched comes too late
constexpr int64_t kMostChunkRows = 192;   // of A, on any target

// One product over k in [k_begin, k_end) and n in [n_begin, n_end), cut in row_chunks x col_chunks.
struct GemmJob {
  const GemmPlan* plan;
  int64_t m, k_begin, k_end, n_begin, n_end;
  int64_t row_chunks, col_chunks, chunk_cols;
  MatrixView a, b;
  const float* packed_a;  // or null: A is read where it is
  const float* packed_b;  // or null: B is read where it is, except a narrow last panel
  int64_t packed_k;       // rows of a panel of packed_b
  const float* last_panel;
  int64_t out_ld;  // of the results
  // Where tiles are made: C itself or, of a result in bf16, a chunk of the thread's own.
  float* c;
  int64_t ldc, c_row, c_col;
  float* tile(int64_t row, int64_t col) const { return c + (row - c_row) * ldc + col - c_col; }
  const GemmEpilogue* epilogue;
};

}  // namespace
}  // namespace graft
#endif

HWY_BEFORE_NAMESPACE();
namespace graft::HWY_NAMESPACE {
namespace {

// Machines with AVX-512 have 1 MB of L2 or more, others 256 KB.
constexpr int64_t kFloatsInL2 = kManyRegisters ? 1 << 18 : 1 << 16;

TileSize TargetTile() { return {kGemmMr, kGemmNr}; }
static_assert((kGemmNr == kAvx512Panel) == (kGemmLanes == 16));

// What the tiles of one block of k of one chunk have in common.
struct Block {
  int64_t pieces;
  const Piece* rows;         // of each piece
  const int64_t* out_lines;  // of a tile
  int64_t col_begin, col_end, k, depth;
  bool first, last, linear, direct, fetch;  // direct: whole vectors of the tile become bf16
};

TileArgs ArgsOf(const GemmJob& job, const Block& block) {
  TileArgs t{};
  t.k = block.depth;
  t.alpha = job.epilogue->alpha;
  t.a_row = job.packed_a != nullptr ? 1 : job.a.row_stride;
  t.a_k = job.a.col_stride;  // of packed_a: the rows of the piece
  t.out_row = job.ldc;
  t.add_row = block.first ? job.epilogue->residual_stride : job.ldc;
  t.out_lines = block.depth < kLeastFetching ? nullptr : block.out_lines;
  return t;
}

// The panel that begins at column `col`.
void SetPanel(const GemmJob& job, const Block& block, int64_t col, TileArgs& t) {
  const GemmEpilogue& e = *job.epilogue;
  t.bias = block.last && e.bias != nullptr ? e.bias + col : nullptr;
  if (e.col_scale != nullptr) t.col_scale = e.col_scale + col, t.col_sum = e.col_sum + col;
  if (job.packed_b == nullptr && block.col_end - col >= kGemmNr) {
    t.b = job.b.data + block.k * job.b.row_stride + col;
    t.b_k = job.b.row_stride;
    return;
  }
  t.b =
      job.packed_b != nullptr ? job.packed_b + (col - job.n_begin) * job.packed_k : job.last_panel;
  t.b += (block.k - job.k_begin) * kGemmNr;
  t.b_k = kGemmNr;
}

// The first tiles of a panel fetch the next one, the next columns' or the next block's.
void SetFetch(const GemmJob& job, const Block& block, int64_t p, int64_t col, TileArgs& t) {
  constexpr int64_t kStep = kFetchLines * kLineFloats;
  const int64_t mine = p * (block.depth / kUnroll) * kStep;
  const bool more = col + kGemmNr < block.col_end;
  const bool fetch = block.fetch && mine < kGemmNr * block.depth && (more || !block.last);
  const int64_t next = more ? kGemmNr * job.packed_k
                            : kGemmNr * block.depth - (col - block.col_begin) * job.packed_k;
  t.fetch = fetch ? t.b + next + mine : t.b;
  t.fetch_step = fetch ? kStep : 0;
}

// The tile of row piece p in that panel.
void RunTile(const GemmJob& job, const Block& block, int64_t p, int64_t col, TileArgs& t) {
  const GemmEpilogue& e = *job.epilogue;
  const int64_t cols = std::min(block.col_end - col, kGemmNr), depth = block.depth;
  const Piece piece = block.rows[p];
  t.out = job.tile(piece.begin, col);
  if (job.packed_a != nullptr) {
    t.a = job.packed_a + (block.k - job.k_begin) * job.m + piece.begin * depth;
    t.a_k = piece.size;
  } else {
    t.a = job.a.data + piece.begin * job.a.row_stride + block.k * job.a.col_stride;
  }
  if (!block.first) {
    t.add = t.out;
  } else if (block.linear && e.residual != nullptr) {
    t.add = e.residual + piece.begin * e.residual_stride + col;
  }
  if (t.out_lines != nullptr) SetFetch(job, block, p, col, t);
  if (e.row_range != nullptr) t.row_range = e.row_range + 2 * piece.begin;
  const FinishedTile tile{t.out, job.ldc, piece.begin, piece.size, col, cols, job.out_ld};
  const bool direct = block.last && block.direct && cols % kGemmLanes == 0;
  t.out16 = direct ? e.c16 + piece.begin * job.out_ld + col : nullptr;
  t.out16_row = job.out_ld;
  const bool finish = block.last && !block.linear && !direct;
  if (finish || direct) FetchForFinish(e, tile);
  switch (job.plan->dot) {
    case Dot::kF32:
      TileOf<Dot::kF32>(piece.size, cols, t);
      break;
    case Dot::kBf16:
      TileOf<Dot::kBf16>(piece.size, cols, t);
      break;
    case Dot::kBf16Any:
      TileOf<Dot::kBf16Any>(piece.size, cols, t);
      break;
    case Dot::kInt8:
      TileOf<Dot::kInt8>(piece.size, cols, t);
      break;
    case Dot::kInt8Any:
      TileOf<Dot::kInt8Any>(piece.size, cols, t);
      break;
  }
  if (finish) Finish(e, tile);
}

// Each panel of B stays in L1 while the rows of the chunk pass. If all panels are so shallow that
// they stay there together, C is written along its rows instead.
void RunBlock(const GemmJob& job, const Block& block) {
  TileArgs t = ArgsOf(job, block);
  if (block.depth * (block.col_end - block.col_begin) <= kShallowFloats) {
    for (int64_t p = 0; p < block.pieces; ++p) {
      for (int64_t col = block.col_begin; col < block.col_end; col += kGemmNr) {
        SetPanel(job, block, col, t);
        RunTile(job, block, p, col, t);
      }
    }
    return;
  }
  for (int64_t col = block.col_begin; col < block.col_end; col += kGemmNr) {
    SetPanel(job, block, col, t);
    for (int64_t p = 0; p < block.pieces; ++p) RunTile(job, block, p, col, t);
  }
}

// The cache lines of a tile of C, as offsets from its begin; the first one stands for none.
void ListLines(int64_t ldc, int64_t (&lines)[kMostInt8Cells / kUnroll]) {
  constexpr int64_t kInRow = CeilDiv(kGemmNr, kLineFloats);
  std::fill(std::begin(lines), std::end(lines), 0);
  for (int64_t i = 0; i < kGemmMr * kInRow; ++i) {
    lines[i] = i / kInRow * ldc + i % kInRow * kLineFloats;
  }
}

// `own` is the thread's, for a result in bf16.
void RunChunk(const GemmJob& all, int64_t chunk, float* own) {
  GemmJob job = all;
  // Through the rows first, what a chunk needs of B comes from memory once. With AVX-512 that has
  // not been measured.
  const int64_t row_chunk = kManyRegisters ? chunk / job.col_chunks : chunk % job.row_chunks;
  const int64_t col_chunk = kManyRegisters ? chunk % job.col_chunks : chunk / job.row_chunks;
  const int64_t begin = job.n_begin + col_chunk * job.chunk_cols;
  const int64_t end = std::min(job.n_end, begin + job.chunk_cols);
  const int64_t pieces = RowPieces(job.m, job.row_chunks, row_chunk);
  Piece rows[CeilDiv(kMostChunkRows, kGemmMr)];
  for (int64_t p = 0; p < pieces; ++p) rows[p] = RowPiece(job.m, job.row_chunks, row_chunk, p);
  if (own) job.c = own, job.ldc = job.chunk_cols, job.c_row = rows[0].begin, job.c_col = begin;
  int64_t out_lines[kMostInt8Cells / kUnroll];
  if (job.plan->k_block >= kLeastFetching) ListLines(job.ldc, out_lines);
  const bool linear = job.epilogue->linear();
  const bool direct = kGemmLanes == 16 && job.epilogue->only_rounds();
  // The first rows bring B into L2, where a small one stays.
  const bool fetch = job.packed_b != nullptr &&
                     (row_chunk == 0 || job.packed_k * (job.n_end - job.n_begin) > kFloatsInL2);
  int64_t k = job.k_begin;
  do {
    const int64_t depth = std::min(job.plan->k_block, job.k_end - k);
    const bool last = k + depth == job.plan->shape.k;
    RunBlock(job,
             {pieces, rows, out_lines, begin, end, k, depth, k == 0, last, linear, direct, fetch});
    k += depth;
  } while (k < job.k_end);
}

}  // namespace
}  // namespace graft::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace graft {
namespace {

HWY_EXPORT(TargetTile);
HWY_EXPORT(PackBPieces);
HWY_EXPORT(PackBPiece);
HWY_EXPORT(PackAChunk);
HWY_EXPORT(RunChunk);

// Rows of a block of B. With AVX-512 a panel of it, 32 KB, leaves room in L1 for A and C. Slower
// tiles have time to get it from L2 each time, and a deep block spares passes over C.
int64_t MostDepth(int64_t panel) { return panel == kAvx512Panel ? 128 : kMostDepth; }
// Most rows of a chunk: a block of A, 96 or 144 KB, stays in L2, and a panel of B serves it all.
int64_t ChunkRows(int64_t panel) { return panel == kAvx512Panel ? kMostChunkRows : 96; }
constexpr int64_t kChunkCols = 384;
constexpr int64_t kFewRows = 16;          // below, packing B costs more than the product
constexpr int64_t kPackFloats = 1 << 20;  // packed at once, unless one block is more
// The same of a B that is made on the way: it stays in L2. Beside kPackFloats 4 % faster with 394
// rows and equal with 3,152 (nf4_bench); half of it is 3 % slower with 3,152.
constexpr int64_t kMadeFloats = 1 << 18;
constexpr int64_t kMostColumns = 4096;  // of B packed at once

int64_t RoundUp(int64_t x, int64_t to) { return CeilDiv(x, to) * to; }

void CutIntoChunks(GemmJob& job, int64_t panel) {
  const int64_t n = job.n_end - job.n_begin;
  job.row_chunks = CeilDiv(job.m, ChunkRows(panel));
  const int64_t work = job.m * n * std::max<int64_t>(job.k_end - job.k_begin, 1);
  const int64_t wanted = std::clamp<int64_t>(work >> 18, 1, 16);
  const int64_t parts = std::max(CeilDiv(n, kChunkCols), CeilDiv(wanted, job.row_chunks));
  job.chunk_cols = RoundUp(CeilDiv(n, parts), panel);
  job.col_chunks = CeilDiv(n, job.chunk_cols);
}

// Packs what the plan wants packed of the job's ranges.
void PackOperands(GemmJob& job, const GemmB& b, float* scratch) {
  const GemmPlan& plan = *job.plan;
  const int64_t depth = job.k_end - job.k_begin, n = job.n_end - job.n_begin;
  const int64_t panels = CeilDiv(n, plan.panel);
  job.packed_k = depth;
  if (plan.shape.b == BOrder::kPacked) {
    job.packed_b = b.packed;
    job.packed_k = plan.shape.k;
  } else if (plan.shape.b == BOrder::kMade) {
    job.packed_b = scratch;
    const GemmPart part{job.k_begin, depth, job.n_begin, n};
    ParallelFor(b.source.pieces(b.source.context, part),
                [&](int64_t i) { b.source.pack(b.source.context, part, i, scratch); });
    scratch += panels * plan.panel * depth;
  } else {
    const MatrixView view{
        b.view.data + job.k_begin * b.view.row_stride + job.n_begin * b.view.col_stride,
        b.view.row_stride, b.view.col_stride};
    job.b = b.view;
    if (plan.pack_b) {
      job.packed_b = scratch;
      ParallelFor(HWY_DYNAMIC_DISPATCH(PackBPieces)(view, depth, n), [&](int64_t i) {
        HWY_DYNAMIC_DISPATCH(PackBPiece)(view, depth, n, i, scratch);
      });
      scratch += panels * plan.panel * depth;
    } else {
      job.packed_b = nullptr;
      job.last_panel = scratch;
      if (const int64_t tail = n % plan.panel; tail != 0) {
        MatrixView last = view;
        last.data += n - tail;  // kRows: col_stride is 1
        const int64_t pieces = HWY_DYNAMIC_DISPATCH(PackBPieces)(last, depth, tail);
        for (int64_t i = 0; i < pieces; ++i) {
          HWY_DYNAMIC_DISPATCH(PackBPiece)(last, depth, tail, i, scratch);
        }
      }
      scratch += plan.panel * depth;
    }
  }
  job.packed_a = nullptr;
  if (!plan.pack_a) return;
  job.packed_a = scratch;
  ParallelFor(job.row_chunks, [&](int64_t i) {
    for (int64_t k = job.k_begin; k < job.k_end; k += plan.k_block) {
      const MatrixView view{job.a.data + k * job.a.col_stride, job.a.row_stride, job.a.col_stride};
      HWY_DYNAMIC_DISPATCH(PackAChunk)
      (view, job.m, job.row_chunks, i, std::min(plan.k_block, job.k_end - k),
       scratch + (k - job.k_begin) * job.m);
    }
  });
}

}  // namespace

GemmPlan PlanGemm(const GemmShape& shape) {
  const TileSize tile = HWY_DYNAMIC_DISPATCH(TargetTile)();
  GemmPlan plan;
  plan.shape = shape;
  plan.panel = tile.cols;
  plan.dot = DotOf(shape.cell);
  GRAFT_CHECK(shape.cell != CellType::kInt8 || (shape.b == BOrder::kPacked && shape.a_by_rows));
  GRAFT_CHECK(shape.cell != CellType::kInt8 || shape.k <= kMostInt8Cells);
  const int64_t k = std::max<int64_t>(shape.k, 1), n = std::max<int64_t>(shape.n, 1);
  plan.k_block = CeilDiv(k, CeilDiv(k, MostDepth(tile.cols)));
  if (shape.cell == CellType::kInt8) plan.k_block = k;  // sums of bytes become numbers at the end
  plan.pack_a = !shape.a_by_rows;
  plan.pack_b = shape.b == BOrder::kOther || shape.b == BOrder::kMade ||
                (shape.b == BOrder::kRows && shape.m > kFewRows);
  plan.n_block = plan.pack_b ? std::min(RoundUp(n, tile.cols), kMostColumns) : n;
  const int64_t b_cols = plan.pack_b ? plan.n_block : shape.b == BOrder::kRows ? tile.cols : 0;
  const int64_t per_k = b_cols + (plan.pack_a ? shape.m : 0);
  const int64_t floats = shape.b == BOrder::kMade ? kMadeFloats : kPackFloats;
  const int64_t blocks = std::max<int64_t>(1, floats / std::max<int64_t>(per_k, 1) / plan.k_block);
  plan.group = per_k == 0 ? k : std::min(k, blocks * plan.k_block);
  // At least group * per_k, and growing with k, which group (a multiple of k_block) does not.
  const int64_t most = std::max(MostDepth(tile.cols), floats / std::max<int64_t>(per_k, 1));
  plan.scratch_bytes = static_cast<size_t>(per_k * std::min(k, most)) * sizeof(float);
  return plan;
}

size_t PackedBytes(int64_t k, int64_t n) {
  const int64_t panel = HWY_DYNAMIC_DISPATCH(TargetTile)().cols;
  return static_cast<size_t>(RoundUp(n, panel) * k) * sizeof(float);
}

void PackB(const MatrixView& b, int64_t k, int64_t n, float* packed) noexcept {
  ParallelFor(HWY_DYNAMIC_DISPATCH(PackBPieces)(b, k, n), [&](int64_t i) {
    HWY_DYNAMIC_DISPATCH(PackBPiece)(b, k, n, i, packed);
  });
}

size_t ChunkBytes(const GemmPlan& plan) {
  if (plan.group < plan.shape.k) return 0;
  return static_cast<size_t>(ChunkRows(plan.panel) * RoundUp(kChunkCols, plan.panel)) *
         sizeof(float);
}

void Gemm(const GemmPlan& plan, int64_t m, const MatrixView& a, const GemmB& b, float* c,
          int64_t ldc, const GemmEpilogue& epilogue, std::byte* scratch,
          ThreadScratch own) noexcept {
  const int64_t n = plan.shape.n, k = plan.shape.k;
  if (m == 0 || n == 0) return;
  GRAFT_CHECK(m <= plan.shape.m, "{} rows, planned for {}", m, plan.shape.m);
  GRAFT_CHECK(plan.panel == HWY_DYNAMIC_DISPATCH(TargetTile)().cols,
              "planned for another SIMD target");
  GRAFT_CHECK(!epilogue.residual || epilogue.residual != c || epilogue.linear());
  const bool in_chunks = c == nullptr;
  GRAFT_CHECK(!in_chunks || (epilogue.c16 && own.bytes >= ChunkBytes(plan)));
  const int most = in_chunks ? own.threads : INT_MAX;
  GemmJob job{};
  job.plan = &plan;
  job.m = m;
  job.a = a;
  job.c = c;
  job.ldc = job.out_ld = ldc;
  job.epilogue = &epilogue;
  for (job.n_begin = 0; job.n_begin < n; job.n_begin = job.n_end) {
    job.n_end = std::min(n, job.n_begin + plan.n_block);
    job.k_begin = 0;
    do {
      job.k_end = std::min(k, job.k_begin + plan.group);
      CutIntoChunks(job, plan.panel);
      PackOperands(job, b, reinterpret_cast<float*>(scratch));
      ParallelForThreads(job.row_chunks * job.col_chunks, most, [&](int64_t i, int t) {
        float* mine = in_chunks ? reinterpret_cast<float*>(own.of(t)) : nullptr;
        HWY_DYNAMIC_DISPATCH(RunChunk)(job, i, mine);
      });
      job.k_begin = job.k_end;
    } while (job.k_begin < k);
  }
}

}  // namespace graft
#endif  // HWY_ONCE
