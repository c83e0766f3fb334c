// Rates of one operator over many shapes, precisions, threads and SIMD targets.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tools/lib/options.h"

namespace graft {

// A text such as "gemm m=197|394 n=768|3072 k=768 dtype=f32|bf16|int8 threads=1|2 isa=avx512|avx2"
// means products C [m, n] = A [m, k] W', where W is a frozen weight [n, k], on the kernels that a
// session gives them. m, n and k must be given; dtype is f32 unless given, and threads and isa are
// those in use.
struct Sweep {
  std::vector<int64_t> m, n, k;
  std::vector<std::string> dtype, isa;
  std::vector<int> threads;

  size_t points() const;     // of one SIMD target
  std::string text() const;  // the same sweep without `isa`
};
// Throws Error (kUsage) for an unknown operator, key or value, for a value that is given twice, for
// a dtype that none of the targets has instructions for, for more than kMostSweepPoints points, and
// for products that take more than a GiB of memory.
inline constexpr size_t kMostSweepPoints = 4096;
Sweep ParseSweep(const std::string& text);

// Returns one row for each point: isa, dtype, threads, m, n, k, impl, ms (median), spread_ms,
// gflops (at the median), gflops_best, peak_gflops (median of samples just before and after),
// share_of_peak (median of the ratios). Other SIMD targets run in a child process, as the target is
// fixed once for each process. Changes Threads().
nlohmann::json RunSweep(const Sweep& sweep, const CommonOptions& common);

// What RunSweep leaves out, a line each: a dtype that one of several targets lacks.
std::vector<std::string> LeftOut(const Sweep& sweep);

std::string SweepText(const nlohmann::json& rows);
// What disturbed the machine, as far as the rows and its load tell.
std::vector<std::string> SweepDisturbances(const nlohmann::json& rows);
std::string SweepCsv(const nlohmann::json& rows);

}  // namespace graft
