#include "tools/profiles/sweep.h"

#include <algorithm>
#include <charconv>
#include <ctime>
#include <set>

#include "ops/isa.h"
#include "ops/low_precision.h"
#include "ops/ops.h"
#include "ops/peak.h"
#include "runtime/session.h"
#include "runtime/words.h"
#include "tools/lib/child.h"
#include "tools/lib/progress_meter.h"
#include "tools/lib/report.h"
#include "tools/lib/run_table.h"
#include "tools/profiles/machine.h"
#include "tools/profiles/stats.h"

namespace graft {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMostSide = 1 << 20;
constexpr double kMostSweepBytes = double{1 << 30};
constexpr int kMostThreads = 1024;
const std::vector<std::string> kKeys{"m", "n", "k", "dtype", "threads", "isa"};
const std::vector<const char*> kColumns{
    "isa",         "dtype",       "threads",      "m",         "n",
    "k",           "impl",        "ms",           "spread_ms", "gflops",
    "gflops_best", "peak_gflops", "share_of_peak"};

template <class T>
std::vector<T> Numbers(const std::string& key, const std::vector<std::string>& words, T most) {
  std::vector<T> numbers;
  for (const std::string& word : words) {
    T value = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
    if (error != std::errc() || end != word.data() + word.size() || value < 1 || value > most)
      FailUsage("--sweep: {}={}: expected whole numbers from 1 to {}, joined by |", key, word,
                most);
    numbers.push_back(value);
  }
  return numbers;
}

CellType CellOf(const std::string& dtype) {
  return dtype == "bf16" ? CellType::kBf16 : dtype == "int8" ? CellType::kInt8 : CellType::kF32;
}

void CheckSizes(const Sweep& s) {
  const double m = static_cast<double>(std::ranges::max(s.m));
  const double n = static_cast<double>(std::ranges::max(s.n));
  const double k = static_cast<double>(std::ranges::max(s.k));
  if (const double bytes = 4 * (m * k + 2 * k * n + m * n); bytes > kMostSweepBytes)
    FailUsage("--sweep: the largest product takes {:.1f} GiB, at most 1 GiB",
              bytes / kMostSweepBytes);
  if (std::ranges::count(s.dtype, "int8") && std::ranges::max(s.k) > 4 * kMostInt8Cells)
    FailUsage("--sweep: dtype=int8 adds up {} numbers at most, found k={}", 4 * kMostInt8Cells,
              std::ranges::max(s.k));
  if (s.points() > kMostSweepPoints)
    FailUsage("--sweep: {} points, at most {}", s.points(), kMostSweepPoints);
}

struct Point {
  std::string dtype;
  int threads;
  int64_t m, n, k;
};

// A product with a frozen weight, in a session of its own.
struct Product {
  ParamStore params;
  std::unique_ptr<Session> session;

  explicit Product(const Point& p) {
    const size_t size = static_cast<size_t>(p.n * p.k);
    float* w = params.Allocate("w", {p.n, p.k});
    for (size_t i = 0; i < size; ++i) w[i] = Noise(i);
    Graph g;
    const ValueId x = g.AddInput("x", {DType::kF32, {p.m, p.k}});
    const ValueId weight = g.AddParam("w", {p.n, p.k});
    MatmulAttrs product{.tb = true};
    LowMatmulAttrs low;
    low.product = product, low.cell = p.dtype;
    g.AddOutput("y", p.dtype == "f32" ? g.Add1(kMatmul, {x, weight}, product)
                                      : g.Add1(kLowMatmul, {x, weight}, low));
    session = std::make_unique<Session>(g, params, SessionOptions{.capacity = {1, 0}});
    const Tensor in = session->Input("x");
    for (int64_t i = 0; i < in.shape.size(); ++i) in.f32()[i] = Noise(static_cast<size_t>(i));
  }
  static float Noise(size_t i) { return 0.001f * static_cast<float>(i % 1013) - 0.5f; }
};

// Counts time as SamplePeak does: of one thread its own CPU time, so that other programs on the
// core do not count; of several the wall time.
double Seconds(int threads) {
  timespec t;
  clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

Json Measure(const Point& p) {
  constexpr int kSamples = 9;
  constexpr double kLeastSeconds = 2e-3;  // of a sample
  SetThreads(p.threads);
  const Product product(p);
  int64_t times = 1;
  const auto run = [&] {
    const double start = Seconds(p.threads);
    for (int64_t i = 0; i < times; ++i) product.session->Run({1, 0});
    return Seconds(p.threads) - start;
  };
  run();  // touches all memory
  while (run() < kLeastSeconds && times < (1 << 20)) times *= 2;
  const double flops = 2e-9 * static_cast<double>(p.m) * static_cast<double>(p.n * p.k);
  std::vector<double> ms, shares, peaks;
  for (int i = 0; i < kSamples; ++i) {
    const double before = SamplePeak(p.threads, CellOf(p.dtype));
    const double seconds = run() / static_cast<double>(times);
    peaks.push_back((before + SamplePeak(p.threads, CellOf(p.dtype))) / 2);
    ms.push_back(1e3 * seconds);
    shares.push_back(flops / seconds / peaks.back());
  }
  return {{"isa", ActiveIsa()},
          {"dtype", p.dtype},
          {"threads", p.threads},
          {"m", p.m},
          {"n", p.n},
          {"k", p.k},
          {"impl", product.session->steps()[0].impl},
          {"ms", Median(ms)},
          {"spread_ms", Spread(ms)},
          {"gflops", flops / Median(ms) * 1e3},
          {"gflops_best", flops / std::ranges::min(ms) * 1e3},
          {"peak_gflops", Median(peaks)},
          {"share_of_peak", Median(shares)}};
}

// Those of the dtypes for which the target has instructions. Products of fewer bits than f32 need
// AVX-512 (HasCells); no lower target has them.
std::vector<std::string> DtypesOf(const Sweep& s, const std::string& isa) {
  std::vector<std::string> dtypes;
  for (const std::string& dtype : s.dtype)
    if (dtype == "f32" || (isa == "avx512" && HasCells(CellOf(dtype)))) dtypes.push_back(dtype);
  return dtypes;
}

// Measures in a process whose SIMD target is this one.
void AppendRowsOfChild(const Sweep& s, const std::string& isa, Json* rows) {
  const ChildResult child =
      RunSelf({"profile", "--sweep", s.text(), "--isa", isa, "--quiet"}, nullptr);
  if (child.exit_code != 0) Fail("--sweep with isa={}: {}", isa, child.last_line);
  for (const Json& row : child.json.at("rows")) rows->push_back(row);
}

// A dtype that a target lacks is left out there; something must be left.
void CheckDtypes(const Sweep& s) {
  for (const std::string& dtype : s.dtype) {
    CheckDtype(dtype, "--sweep: dtype");
    if (dtype == "auto") FailUsage("--sweep: dtype=auto: expected f32, bf16 or int8");
  }
  const auto none = [&](const std::string& isa) { return DtypesOf(s, isa).empty(); };
  if (s.isa.empty() ? none(ActiveIsa()) : std::ranges::all_of(s.isa, none))
    FailUsage(
        "--sweep: dtype={}: no instruction for its products, of this CPU or with that SIMD target; "
        "hint: dtype=f32 (sweeps do not emulate)",
        fmt::join(s.dtype, "|"));
}

}  // namespace

size_t Sweep::points() const {
  return m.size() * n.size() * k.size() * dtype.size() * threads.size();
}

std::string Sweep::text() const {
  return fmt::format("gemm m={} n={} k={} dtype={} threads={}", fmt::join(m, "|"),
                     fmt::join(n, "|"), fmt::join(k, "|"), fmt::join(dtype, "|"),
                     fmt::join(threads, "|"));
}

Sweep ParseSweep(const std::string& text) {
  std::vector<std::string> words;
  for (const std::string& word : SplitAt(text, ' '))
    if (!word.empty()) words.push_back(word);
  if (words.empty() || words[0] != "gemm")
    FailUsage("--sweep '{}': expected an operator first; known: gemm", text);
  Sweep s;
  std::set<std::string> seen;
  for (size_t i = 1; i < words.size(); ++i) {
    const size_t equals = words[i].find('=');
    const std::string key = words[i].substr(0, equals);
    if (equals == std::string::npos || std::ranges::count(kKeys, key) == 0)
      FailUsage("--sweep: '{}'{}; expected KEY=VALUE|VALUE", words[i], DidYouMean(key, kKeys));
    if (!seen.insert(key).second) FailUsage("--sweep: {} is given twice", key);
    const std::vector<std::string> values = SplitAt(words[i].substr(equals + 1), '|');
    if (std::set(values.begin(), values.end()).size() != values.size())
      FailUsage("--sweep: {}: a value is there twice", words[i]);
    if (key == "m") s.m = Numbers(key, values, kMostSide);
    if (key == "n") s.n = Numbers(key, values, kMostSide);
    if (key == "k") s.k = Numbers(key, values, kMostSide);
    if (key == "threads") s.threads = Numbers(key, values, kMostThreads);
    if (key == "dtype") s.dtype = values;
    if (key == "isa") s.isa = values;
  }
  for (const char* key : {"m", "n", "k"})
    if (!seen.contains(key)) FailUsage("--sweep '{}': {}= is missing", text, key);
  if (s.dtype.empty()) s.dtype = {"f32"};
  if (s.threads.empty()) s.threads = {Threads()};
  for (const std::string& isa : s.isa) CheckIsa(isa);
  CheckDtypes(s);
  CheckSizes(s);
  return s;
}

Json RunSweep(const Sweep& sweep, const CommonOptions& common) {
  std::vector<std::string> isas = sweep.isa;
  if (isas.empty()) isas = {ActiveIsa()};
  ProgressMeter meter(StandardMeter());
  Json rows = Json::array();
  for (const std::string& isa : isas) {
    Sweep s = sweep;
    s.dtype = DtypesOf(sweep, isa);
    if (s.dtype.empty()) continue;
    if (isa != ActiveIsa()) {
      AppendRowsOfChild(s, isa, &rows);
      continue;
    }
    for (const std::string& dtype : s.dtype)
      for (const int threads : s.threads)
        for (const int64_t m : s.m)
          for (const int64_t n : s.n)
            for (const int64_t k : s.k) {
              rows.push_back(Measure({dtype, threads, m, n, k}));
              if (!common.quiet) meter.Work("sweep " + isa, rows.size(), s.points(), "points");
            }
  }
  EndProgressLine();
  return rows;
}

std::vector<std::string> LeftOut(const Sweep& s) {
  std::vector<std::string> left;
  for (const std::string& isa : s.isa.empty() ? std::vector{ActiveIsa()} : s.isa) {
    const std::vector<std::string> has = DtypesOf(s, isa);
    for (const std::string& dtype : s.dtype)
      if (std::ranges::count(has, dtype) == 0)
        left.push_back(fmt::format("{} has no instruction for products of {}", isa, dtype));
  }
  return left;
}

std::string SweepText(const Json& rows) {
  TextTable table({2, 3, 4, 5, 7, 8, 9, 10, 11, 12});
  table.Add({"isa", "dtype", "threads", "m", "n", "k", "kernel", "ms", "+-", "GFLOP/s", "best",
             "peak", "of peak"});
  for (const Json& r : rows)
    table.Add({r.at("isa"), r.at("dtype"), r.at("threads").dump(), r.at("m").dump(),
               r.at("n").dump(), r.at("k").dump(), r.at("impl"),
               fmt::format("{:.3f}", r.at("ms").get<double>()),
               fmt::format("{:.3f}", r.at("spread_ms").get<double>()),
               fmt::format("{:.1f}", r.at("gflops").get<double>()),
               fmt::format("{:.1f}", r.at("gflops_best").get<double>()),
               fmt::format("{:.1f}", r.at("peak_gflops").get<double>()),
               fmt::format("{:.0f}%", 100 * r.at("share_of_peak").get<double>())});
  return table.Lines("");
}

std::vector<std::string> SweepDisturbances(const Json& rows) {
  constexpr double kWide = 0.2, kTooMuch = 1.05;
  std::vector<std::string> all = LoadDisturbances(LoadAverage());
  const auto count = [&](const auto& is) { return std::ranges::count_if(rows, is); };
  const auto wide = count([&](const Json& r) {
    return r.at("spread_ms").get<double>() > kWide * r.at("ms").get<double>();
  });
  const auto beyond =
      count([&](const Json& r) { return r.at("share_of_peak").get<double>() > kTooMuch; });
  if (wide > 0)
    all.push_back(fmt::format("{} of {} points are {:.0f} % from their median", wide, rows.size(),
                              100 * kWide));
  if (beyond > 0)
    all.push_back(fmt::format("{} of {} points are faster than the peak that was measured beside "
                              "them",
                              beyond, rows.size()));
  return all;
}

std::string SweepCsv(const Json& rows) {
  std::string text = fmt::format("{}\n", fmt::join(kColumns, ","));
  for (const Json& row : rows) {
    std::string line;
    for (const char* column : kColumns) {
      const Json& value = row.at(column);
      line += (line.empty() ? "" : ",") +
              (value.is_string() ? CsvField(value.get<std::string>()) : value.dump());
    }
    text += line + "\n";
  }
  return text;
}

}  // namespace graft
