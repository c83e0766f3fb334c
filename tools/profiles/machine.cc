#include "tools/profiles/machine.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>

#include "ops/isa.h"
#include "runtime/cpu.h"
#include "runtime/error.h"
#include "runtime/io/atomic_file.h"
#include "runtime/io/file_stamp.h"
#include "runtime/io/json.h"
#include "runtime/io/sha256.h"
#include "runtime/threads.h"
#include "runtime/version.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLevels[] = {"L1", "L2", "L3", "DRAM"};
constexpr double kFasterNow = 1.05;  // than what is stored, which was then disturbed
constexpr double kSlowerNow = 0.9;

double UnixSeconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// Everything that decides the rates and is known without measuring.
Json Key() {
  const CpuInfo& cpu = Cpu();
  return {{"cpu", cpu.model},         {"cores", cpu.physical_cores}, {"l1d_bytes", cpu.l1d_bytes},
          {"l2_bytes", cpu.l2_bytes}, {"l3_bytes", cpu.l3_bytes},    {"isa", ActiveIsa()},
          {"threads", Threads()},     {"version", kVersion}};
}

fs::path Folder() {
  const std::string cache = CacheDirectory();
  return cache.empty() ? fs::path() : fs::path(cache) / "machine";
}

std::string FileName(const Json& key) {
  const std::string text = ShowJson(key);
  return Sha256Hex(std::as_bytes(std::span(text))).substr(0, 16) + ".json";
}

double SampleNow() {
  double best = 0;
  for (int i = 0; i < 12; ++i) best = std::max(best, SamplePeak(Threads()));
  return best;
}

Json RatesJson(const MachineFacts& m) {
  Json levels = Json::array();
  for (const LevelRate& l : m.levels)
    levels.push_back(
        {{"level", l.level}, {"bytes", l.bytes}, {"gb_per_second", l.bytes_per_second * 1e-9}});
  return {{"peak_gflops", m.peak.gflops},
          {"peak_gflops_bf16", m.peak.bf16_gflops},
          {"peak_gflops_int8", m.peak.int8_gflops},
          {"gb_per_second", m.peak.bytes_per_second * 1e-9},
          {"levels", levels}};
}

// Throws Error for a file that is damaged or belongs to another key.
MachineFacts ReadFacts(const std::string& path, const Json& key) {
  constexpr double kMost = 1e9;
  const Json json = ReadJson(path, {.bytes = 1 << 16, .depth = 8});
  if (GetObject(json, "key", path) != key) Fail("{}: of another machine", path);
  MachineFacts m;
  m.age_seconds = std::max(0.0, UnixSeconds() - GetNumber(json, "measured", 0, 1e12, path));
  const Json& rates = GetObject(json, "rates", path);
  m.peak.gflops = GetNumber(rates, "peak_gflops", 1e-3, kMost, path);
  m.peak.bf16_gflops = GetNumber(rates, "peak_gflops_bf16", 0, kMost, path);
  m.peak.int8_gflops = GetNumber(rates, "peak_gflops_int8", 0, kMost, path);
  m.peak.bytes_per_second = 1e9 * GetNumber(rates, "gb_per_second", 1e-3, kMost, path);
  for (const Json& level : GetArray(rates, "levels", path)) {
    const std::string name = GetString(level, "level", path);
    const auto known = std::ranges::find(kLevels, name);
    if (known == std::end(kLevels)) Fail("{}: level '{}'", path, name);
    m.levels.push_back({*known,
                        static_cast<size_t>(GetInt(level, "bytes", 1, int64_t{1} << 40, path)),
                        1e9 * GetNumber(level, "gb_per_second", 1e-3, kMost, path)});
  }
  if (m.levels.empty() || std::string_view(m.levels.back().level) != "DRAM")
    Fail("{}: no rate of DRAM", path);
  m.stored = true;
  return m;
}

void Keep(const MachineFacts& m, const Json& key) {
  if (Folder().empty()) return;
  try {
    fs::create_directories(Folder());
    const FilePlace place(Directory::Open(Folder()), FileName(key), true);
    const Json json{{"key", key}, {"measured", UnixSeconds()}, {"rates", RatesJson(m)}};
    WriteFileAtomically(place, DumpJson(json, 1) + "\n");
  } catch (const std::exception&) {
    // The cache stays as it is: in a read-only home, on a full disk, or where another process
    // writes the same entry.
  }
}

MachineFacts Measure() {
  MachineFacts m;
  m.peak = MeasurePeak(Threads());
  m.peak_now = m.peak.gflops;
  m.levels = MeasureLevels(Threads());
  m.peak.bytes_per_second = m.levels.back().bytes_per_second;
  return m;
}

// The small levels stand for all, as what disturbed them has disturbed the others.
bool FasterNow(const MachineFacts& stored) {
  if (stored.peak_now > kFasterNow * stored.peak.gflops) return true;
  for (const LevelRate& now : MeasureSmallLevels(Threads())) {
    const auto before =
        std::ranges::find(stored.levels, std::string_view(now.level),
                          [](const LevelRate& l) { return std::string_view(l.level); });
    if (before == stored.levels.end()) return true;
    if (now.bytes_per_second > kFasterNow * before->bytes_per_second) return true;
  }
  return false;
}

// A rate is a property of the machine, and what disturbs it only lowers it: the better of the two
// is the nearer one.
void TakeBetter(const MachineFacts& stored, MachineFacts* m) {
  const auto raise = [](double from, double* to) { *to = std::max(from, *to); };
  raise(stored.peak.gflops, &m->peak.gflops);
  raise(stored.peak.bf16_gflops, &m->peak.bf16_gflops);
  raise(stored.peak.int8_gflops, &m->peak.int8_gflops);
  for (LevelRate& level : m->levels)
    for (const LevelRate& before : stored.levels)
      if (std::string_view(before.level) == level.level)
        raise(before.bytes_per_second, &level.bytes_per_second);
  m->peak.bytes_per_second = m->levels.back().bytes_per_second;
}

}  // namespace

double LoadAverage() {
  double load = -1;
  return getloadavg(&load, 1) == 1 ? load : -1;
}

MachineFacts AskMachine(bool refresh) {
  const Json key = Key();
  const double load = LoadAverage();
  MachineFacts m;
  if (!refresh && !Folder().empty()) {
    const std::string path = Folder() / FileName(key);
    std::error_code error;
    try {
      if (fs::is_regular_file(path, error)) m = ReadFacts(path, key);
    } catch (const Error&) {
      m = {};  // a damaged file is none
    }
  }
  if (m.stored) m.peak_now = SampleNow();
  if (!m.stored || FasterNow(m)) {
    MachineFacts now = Measure();
    if (m.stored) TakeBetter(m, &now);
    m = std::move(now);
    Keep(m, key);
  }
  m.load_average = load;
  return m;
}

const LevelRate& LevelFor(const MachineFacts& m, double bytes) {
  const CpuInfo& cpu = Cpu();
  const auto size = [&](std::string_view level) {
    if (level == "L1") return static_cast<double>(cpu.l1d_bytes);
    if (level == "L2") return static_cast<double>(cpu.l2_bytes);
    return static_cast<double>(cpu.l3_bytes) / Threads();
  };
  for (const LevelRate& level : m.levels)
    if (&level != &m.levels.back() && bytes <= size(level.level)) return level;
  return m.levels.back();
}

std::vector<std::string> LoadDisturbances(double load_average) {
  const int cores = Cpu().physical_cores;
  if (load_average <= 0.5 * cores) return {};
  return {fmt::format("the load average is {:.1f} on {} cores", load_average, cores)};
}

std::vector<std::string> Disturbances(const MachineFacts& m) {
  std::vector<std::string> all = LoadDisturbances(m.load_average);
  if (const int cores = DefaultThreads(); Threads() > cores)
    all.push_back(fmt::format("{} threads take turns on {}", Threads(),
                              cores == 1 ? "one core" : fmt::format("{} cores", cores)));
  if (m.peak_now < kSlowerNow * m.peak.gflops)
    all.push_back(fmt::format("multiply-adds run at {:.0f} % of the peak now",
                              100 * m.peak_now / m.peak.gflops));
  return all;
}

std::string AgeText(double seconds) {
  if (seconds < 120) return fmt::format("{:.0f} seconds", seconds);
  if (seconds < 7200) return fmt::format("{:.0f} minutes", seconds / 60);
  if (seconds < 2 * 86400) return fmt::format("{:.0f} hours", seconds / 3600);
  return fmt::format("{:.0f} days", seconds / 86400);
}

std::string MachineText(const MachineFacts& m) {
  const CpuInfo& cpu = Cpu();
  std::string text = fmt::format(
      "{}\n  {} cores usable, {} threads, SIMD {}; caches L1 {} KiB, L2 {} KiB, L3 {} MiB\n",
      cpu.model, cpu.physical_cores, Threads(), ActiveIsa(), cpu.l1d_bytes >> 10,
      cpu.l2_bytes >> 10, cpu.l3_bytes >> 20);
  text += fmt::format(
      "  measured{}: {:.1f} GFLOP/s f32",
      m.stored ? fmt::format(" {} ago (--refresh measures again)", AgeText(m.age_seconds)) : "",
      m.peak.gflops);
  if (m.peak.bf16_gflops > 0) text += fmt::format(", {:.1f} bf16", m.peak.bf16_gflops);
  if (m.peak.int8_gflops > 0) text += fmt::format(", {:.1f} int8", m.peak.int8_gflops);
  for (const LevelRate& l : m.levels)
    text += fmt::format("; {} {:.1f}", l.level, l.bytes_per_second * 1e-9);
  return text + " GB/s";
}

Json MachineJson(const MachineFacts& m) {
  Json json = Key();
  json.update(RatesJson(m));
  json["stored"] = m.stored, json["age_seconds"] = m.age_seconds;
  json["load_average"] = m.load_average, json["peak_gflops_now"] = m.peak_now;
  json["disturbances"] = Disturbances(m);
  return json;
}

}  // namespace graft
