#include "tools/profiles/node_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

#include "ops/low_cells.h"
#include "ops/ops.h"
#include "runtime/dependence.h"
#include "runtime/lifetimes.h"
#include "tools/profiles/stats.h"

namespace graft {
namespace {

constexpr std::string_view kRecompute = ".recompute";  // the scope's end of what autograd repeats

// Tells the phases of nodes; what the loss is made of is forward.
class Phases {
 public:
  explicit Phases(const Graph& g) : g_(g) {
    const ValueId loss = g.FindLeaf("acc.loss");
    std::vector<ValueId> made;
    for (const Update& u : g.updates)
      if (u.target == loss) made.push_back(u.value);
    training_ = loss.valid();
    forward_ = NeededForAny(g, made);
  }

  const char* Of(const StepInfo& s) const {
    if (s.phase == Phase::kUpdate) return "update";
    if (s.once) return "once";
    if (s.scope.ends_with(kRecompute)) return "recompute";
    return !training_ || forward_[g_.node(s.node).out[0].i] ? "forward" : "backward";
  }

 private:
  const Graph& g_;
  bool training_ = false;
  std::vector<bool> forward_;
};

std::string ShapeOf(const Graph& g, const StepInfo& s, const Counts& capacity) {
  const Node& n = g.node(s.node);
  const Extents out = At(g.shape(n.out[0]), capacity);
  if (n.op == &kMatmul || n.op == &kLowMatmul || n.op == &kNf4Matmul) {
    const Extents a = At(g.shape(n.in[0]), capacity);
    if (n.op == &kLowMatmul) {  // whose a may be cells
      const Extents b = At(g.shape(n.in[1]), capacity);
      return fmt::format("{}x{}x{}", out[0], out[1],
                         b[n.attrs.As<LowMatmulAttrs>().product.tb ? 1 : 0]);
    }
    const bool transposed = n.op == &kMatmul && n.attrs.As<MatmulAttrs>().ta;
    return fmt::format("{}x{}x{}", out[0], out[1], a[transposed ? 0 : 1]);
  }
  std::string text;
  for (int i = 0; i < out.rank; ++i) text += fmt::format("{}{}", i ? "x" : "", out[i]);
  return text.empty() ? "1" : text;
}

// Turns "blocks.11.attn.q" into "blocks.*.attn.q".
std::string Layer(std::string scope) {
  if (scope.ends_with(kRecompute)) scope.resize(scope.size() - kRecompute.size());
  if (!scope.starts_with("blocks.")) return scope;
  const size_t dot = scope.find('.', 7);
  return "blocks.*" + (dot == std::string::npos ? "" : scope.substr(dot));
}

// Writes columns as wide as their widest cell, with numbers to the right.
std::string Columns(const std::vector<std::vector<std::string>>& rows, size_t left) {
  std::vector<size_t> widths(rows[0].size());
  for (const auto& row : rows)
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i)
      line += i < left ? fmt::format("{:<{}}  ", row[i], widths[i])
                       : fmt::format("{:>{}}  ", row[i], widths[i]);
    line.erase(line.find_last_not_of(' ') + 1);
    text += (text.empty() ? "" : "\n") + line;
  }
  return text;
}

}  // namespace

NodeTimes::NodeTimes(const Session& session, const Graph& graph, const Precision& precision,
                     std::span<const Counts> parts)
    : session_(session) {
  const Phases phases(graph);
  std::vector<const char*> not_lower;
  if (precision.cell != CellType::kF32) not_lower = ReasonsForNoLess(graph, precision);
  for (const StepInfo& s : session.steps()) {
    const std::string shape = ShapeOf(graph, s, session.options().capacity);
    const KernelChoice choice = WhyKernel(graph, s.node, session.options().capacity);
    ProfiledNode n{s, phases.Of(s), shape, choice.why, choice.refused, {}, {}};
    for (const Counts& part : parts) {
      if (s.once || s.phase == Phase::kUpdate) break;
      const Cost cost = CostOf(graph, graph.node(s.node), part);
      n.of_step.flops += cost.flops, n.of_step.bytes += cost.bytes;
    }
    if (!not_lower.empty() && *not_lower[s.node.i])
      n.refused += fmt::format("{}{}: {}", n.refused.empty() ? "" : "; ", CellName(precision.cell),
                               not_lower[s.node.i]);
    n.info.seconds = 0, n.info.calls = 0;
    nodes_.push_back(std::move(n));
  }
}

void NodeTimes::AddStep() {
  const std::vector<StepInfo> now = session_.steps();
  for (size_t i = 0; i < now.size(); ++i) {
    StepInfo& before = nodes_[i].info;
    nodes_[i].ms.push_back(1e3 * (now[i].seconds - before.seconds));
    before.seconds = now[i].seconds, before.calls = now[i].calls;
    if (!before.once && before.phase != Phase::kUpdate) continue;
    const double calls =
        static_cast<double>(before.calls) / static_cast<double>(nodes_[i].ms.size());
    nodes_[i].of_step = {before.cost.flops * calls, before.cost.bytes * calls};
  }
}

double NodeKind::median_ms() const { return Median(ms); }

std::vector<NodeKind> KindsOf(const std::vector<ProfiledNode>& nodes) {
  std::map<std::tuple<std::string, std::string, std::string, std::string, std::string>, NodeKind>
      all;
  for (const ProfiledNode& n : nodes) {
    if (n.info.calls == 0 || n.ms.empty()) continue;
    const std::string layer = Layer(n.info.scope);
    const auto [at, first] = all.try_emplace({n.phase, n.info.op, layer, n.shape, n.info.impl});
    NodeKind& kind = at->second;
    if (first) kind = {n.phase, n.info.op, layer, n.shape, n.info.impl, n.why, n.refused};
    kind.ms.resize(n.ms.size());
    const double calls = static_cast<double>(n.info.calls) / static_cast<double>(n.ms.size());
    kind.flops += n.of_step.flops, kind.bytes += n.of_step.bytes;
    kind.calls += calls;
    for (size_t i = 0; i < n.ms.size(); ++i) kind.ms[i] += n.ms[i];
  }
  std::vector<NodeKind> sorted;
  for (auto& [key, kind] : all) sorted.push_back(std::move(kind));
  std::ranges::stable_sort(sorted, std::greater(), &NodeKind::median_ms);
  return sorted;
}

NodeRates RatesOf(const NodeKind& kind, const MachineFacts& machine, int threads_inside) {
  NodeRates r;
  const double seconds = std::max(1e-3 * kind.median_ms(), 1e-9);
  const LevelRate& level =
      LevelFor(machine, kind.bytes / std::max(kind.calls, 1.0) / threads_inside);
  const double peak = PeakOf(machine.peak, kind.impl);
  const double least = std::max(kind.flops / (peak * 1e9), kind.bytes / level.bytes_per_second);
  r.gflops = kind.flops / seconds * 1e-9;
  r.gb_per_second = kind.bytes / seconds * 1e-9;
  r.of_peak = r.gflops / peak;
  r.of_roof = least / seconds;
  r.intensity = kind.bytes > 0 ? kind.flops / kind.bytes : 0;
  r.roof_gflops = std::min(peak, r.intensity * level.bytes_per_second * 1e-9);
  r.level = level.level;
  return r;
}

std::string NodeTable(const std::vector<NodeKind>& kinds, const MachineFacts& machine,
                      int threads_inside, int64_t top) {
  double total = 0;
  std::map<std::string, double> phases;
  for (const NodeKind& k : kinds) total += k.median_ms(), phases[k.phase] += k.median_ms();
  std::vector<std::vector<std::string>> rows{{"phase", "operator", "layer", "MxNxK", "kernel",
                                              "calls", "ms", "+-", "share", "GFLOP/s", "of peak",
                                              "GB/s", "level", "of roof"}};
  bool above = false;
  for (size_t i = 0; i < kinds.size() && i < static_cast<size_t>(top); ++i) {
    const NodeKind& k = kinds[i];
    const NodeRates r = RatesOf(k, machine, threads_inside);
    above = above || r.of_peak > 1 || r.of_roof > 1;
    rows.push_back({k.phase, k.op, k.layer, k.shape, k.impl, fmt::format("{:.0f}", k.calls),
                    fmt::format("{:.2f}", k.median_ms()), fmt::format("{:.2f}", Spread(k.ms)),
                    fmt::format("{:.1f}%", 100 * k.median_ms() / std::max(total, 1e-9)),
                    fmt::format("{:.1f}", r.gflops), fmt::format("{:.0f}%", 100 * r.of_peak),
                    fmt::format("{:.1f}", r.gb_per_second), r.level,
                    fmt::format("{:.0f}%", 100 * r.of_roof)});
  }
  std::string text = Columns(rows, 5);
  std::string sums;
  for (const char* phase : {"forward", "recompute", "backward", "update", "once"})
    if (phases.contains(phase))
      sums += fmt::format("{}{} {:.1f} ms", sums.empty() ? "" : ", ", phase, phases[phase]);
  text += fmt::format(
      "\n{} (calls and ms are of one step; +-: median distance from the median; of roof: of the "
      "lower of the peak and the bandwidth of the level that holds what a call reads and writes)",
      sums);
  if (above)
    text +=
        "\nabove 100 %: some operands were in a faster level than the whole, or the machine was "
        "disturbed while its peak was measured (--refresh)";
  return text;
}

nlohmann::json NodesJson(const std::vector<ProfiledNode>& nodes) {
  nlohmann::json json = nlohmann::json::array();
  for (const ProfiledNode& n : nodes)
    json.push_back({{"op", n.info.op},
                    {"scope", n.info.scope},
                    {"phase", n.phase},
                    {"shape", n.shape},
                    {"impl", n.info.impl},
                    {"why", n.why},
                    {"refused", n.refused},
                    {"seconds", n.info.seconds},
                    {"calls", n.info.calls},
                    {"ms", Median(n.ms)},
                    {"ms_min", n.ms.empty() ? 0 : std::ranges::min(n.ms)},
                    {"ms_spread", Spread(n.ms)},
                    {"flops", n.info.cost.flops},
                    {"bytes", n.info.cost.bytes}});
  return json;
}

nlohmann::json KindsJson(const std::vector<NodeKind>& kinds, const MachineFacts& machine,
                         int threads_inside) {
  nlohmann::json json = nlohmann::json::array();
  for (const NodeKind& k : kinds) {
    const NodeRates r = RatesOf(k, machine, threads_inside);
    json.push_back({{"phase", k.phase},
                    {"op", k.op},
                    {"layer", k.layer},
                    {"shape", k.shape},
                    {"impl", k.impl},
                    {"calls", k.calls},
                    {"flops", k.flops},
                    {"bytes", k.bytes},
                    {"ms", k.median_ms()},
                    {"ms_min", std::ranges::min(k.ms)},
                    {"ms_spread", Spread(k.ms)},
                    {"steps_ms", k.ms},
                    {"gflops", r.gflops},
                    {"gb_per_second", r.gb_per_second},
                    {"share_of_peak", r.of_peak},
                    {"level", r.level},
                    {"share_of_roof", r.of_roof}});
  }
  return json;
}

}  // namespace graft
