#include "tools/profiles/page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "ops/isa.h"
#include "ops/low_precision.h"
#include "runtime/cpu.h"
#include "runtime/threads.h"
#include "tools/lib/report.h"
#include "runtime/version.h"
#include "tools/profiles/record.h"
#include "tools/profiles/stats.h"

namespace graft {
namespace {

using Json = nlohmann::json;

constexpr double kLeastShare = 5e-4;  // of a step, to be a point of the roofline

struct Peak {
  const char* dtype;
  double gflops;
};
std::vector<Peak> PeaksOf(const MachineFacts& m) {
  std::vector<Peak> peaks{{"f32", m.peak.gflops}};
  if (m.peak.bf16_gflops > 0) peaks.push_back({"bf16", m.peak.bf16_gflops});
  if (m.peak.int8_gflops > 0) peaks.push_back({"int8", m.peak.int8_gflops});
  return peaks;
}

Json Line(const std::string& label, double x0, double y0, double x1, double y1) {
  return {{"label", label},      {"data", {{{"x", x0}, {"y", y0}}, {{"x", x1}, {"y", y1}}}},
          {"showLine", true},    {"pointRadius", 0},
          {"pointHitRadius", 0}, {"borderWidth", 1.5}};
}

// Draws the roofs: for each level a slope up to the highest peak, and for each peak a horizontal
// line from where the fastest level meets it.
void AddRoofs(const MachineFacts& m, double least, double most, Json* sets) {
  const std::vector<Peak> peaks = PeaksOf(m);
  double top = 0, fastest = 0;
  for (const Peak& peak : peaks) top = std::max(top, peak.gflops);
  for (const LevelRate& level : m.levels) {
    const double gb = level.bytes_per_second * 1e-9, ridge = std::min(most, top / gb);
    fastest = std::max(fastest, gb);
    sets->push_back(
        Line(fmt::format("{} {:.0f} GB/s", level.level, gb), least, gb * least, ridge, gb * ridge));
  }
  for (const Peak& peak : peaks)
    sets->push_back(Line(fmt::format("{} {:.0f} GFLOP/s", peak.dtype, peak.gflops),
                         std::max(least, peak.gflops / fastest), peak.gflops, most, peak.gflops));
}

Json RooflineChart(const std::vector<NodeKind>& kinds, const MachineFacts& m, int inside,
                   double total_ms) {
  std::map<std::string, Json> points;
  double least = 0.1, most = 100, slowest = 1;
  for (const NodeKind& k : kinds) {
    const NodeRates r = RatesOf(k, m, inside);
    const double share = k.median_ms() / std::max(total_ms, 1e-9);
    if (r.intensity <= 0 || r.gflops <= 0 || share < kLeastShare) continue;
    least = std::min(least, r.intensity), most = std::max(most, 2 * r.intensity);
    slowest = std::min(slowest, r.gflops);
    Json& set = points[k.phase];
    set["label"] = k.phase, set["pointHoverRadius"] = 10;
    set["pointRadius"].push_back(3 + 25 * std::sqrt(share));
    set["data"].push_back(
        {{"x", r.intensity},
         {"y", r.gflops},
         {"name", fmt::format("{} {} {}, {}: {:.1f} GFLOP/s, {:.2f} ms, {:.0f} % of its roof ({})",
                              k.op, k.layer, k.shape, k.impl, r.gflops, k.median_ms(),
                              100 * r.of_roof, r.level)}});
  }
  Json sets = Json::array();
  for (const auto& [phase, set] : points) sets.push_back(set);
  AddRoofs(m, least, most, &sets);
  const auto axis = [](const char* text, double min, double max) {
    return Json{{"type", "logarithmic"},
                {"min", min},
                {"max", max},
                {"title", {{"display", true}, {"text", text}}}};
  };
  double top = 0;
  for (const Peak& peak : PeaksOf(m)) top = std::max(top, peak.gflops);
  const Json scales{{"x", axis("flops for a byte read or written", least / 2, most)},
                    {"y", axis("GFLOP/s", slowest / 2, 2 * top)}};
  return {{"type", "scatter"},
          {"data", {{"datasets", sets}}},
          {"options", {{"scales", scales}, {"plugins", {{"legend", {{"position", "right"}}}}}}}};
}

HtmlCell Number(double value, const char* format = "{:.2f}") {
  return NumberCell(value, fmt::format(fmt::runtime(format), value));
}

std::string WhyText(const std::string& why, const std::string& refused) {
  if (why.empty() && refused.empty()) return "";
  return refused.empty() ? why : fmt::format("{}{}not {}", why, why.empty() ? "" : "; ", refused);
}

HtmlTable KindsTable(const std::vector<NodeKind>& kinds, const MachineFacts& m, int inside,
                     double total_ms) {
  HtmlTable table;
  table.titles = {"phase",     "operator", "layer",   "MxNxK",          "kernel",  "calls",
                  "ms",        "+- ms",    "share",   "GFLOP/s",        "of peak", "GB/s",
                  "flop/byte", "level",    "of roof", "why this kernel"};
  table.numbers = {false, false, false, false, false, true,  true, true,
                   true,  true,  true,  true,  true,  false, true, false};
  for (const NodeKind& k : kinds) {
    const NodeRates r = RatesOf(k, m, inside);
    table.rows.push_back({{k.phase},
                          {k.op},
                          {k.layer},
                          {k.shape},
                          {k.impl},
                          Number(k.calls, "{:.0f}"),
                          Number(k.median_ms(), "{:.3f}"),
                          Number(Spread(k.ms), "{:.3f}"),
                          Number(100 * k.median_ms() / std::max(total_ms, 1e-9), "{:.1f} %"),
                          Number(r.gflops, "{:.1f}"),
                          Number(100 * r.of_peak, "{:.0f} %"),
                          Number(r.gb_per_second, "{:.1f}"),
                          Number(r.intensity),
                          {r.level},
                          Number(100 * r.of_roof, "{:.0f} %"),
                          {WhyText(k.why, k.refused)}});
  }
  return table;
}

HtmlTable NodesTable(const Profile& p, const MachineFacts& m, int inside) {
  HtmlTable table;
  table.titles = {"node", "phase", "operator", "scope", "MxNxK",   "kernel",         "calls",
                  "ms",   "+- ms", "GFLOP/s",  "GB/s",  "of roof", "why this kernel"};
  table.numbers = {true, false, false, false, false, false, true,
                   true, true,  true,  true,  true,  false};
  for (size_t i = 0; i < p.nodes.size(); ++i) {
    const ProfiledNode& n = p.nodes[i];
    const std::vector<NodeKind> kinds = KindsOf({n});
    if (kinds.empty()) continue;  // never called
    const NodeRates r = RatesOf(kinds[0], m, inside);
    table.rows.push_back({Number(static_cast<double>(i), "{:.0f}"),
                          {n.phase},
                          {n.info.op},
                          {n.info.scope},
                          {n.shape},
                          {n.info.impl},
                          Number(kinds[0].calls, "{:.0f}"),
                          Number(Median(n.ms), "{:.4f}"),
                          Number(Spread(n.ms), "{:.4f}"),
                          Number(r.gflops, "{:.1f}"),
                          Number(r.gb_per_second, "{:.1f}"),
                          Number(100 * r.of_roof, "{:.0f} %"),
                          {WhyText(n.why, n.refused)}});
  }
  return table;
}

void AddNumerics(const Numerics& n, Page* page) {
  page->Heading(fmt::format("{} beside f32", n.dtype));
  page->Facts({{"logits", LogitsText(n)}, {"gradients", LossText(n)}});
  if (n.gradients.empty()) return;
  for (const auto& [title, all] : {std::pair("layer", &n.layers), {"tensor", &n.gradients}}) {
    page->Heading(fmt::format("Gradients by {}", title), 3);
    HtmlTable table;
    table.titles = {title, "cosine", "norm / norm in f32", "apart / norm", "share of all"};
    table.numbers = {false, true, true, true, true};
    for (const GradientDistance& d : *all)
      table.rows.push_back({{d.tensor},
                            Number(d.cosine, "{:.6f}"),
                            Number(d.norm, "{:.4f}"),
                            Number(d.relative, "{:.2e}"),
                            Number(100 * d.share, "{:.1f} %")});
    page->Table(table);
  }
}

void AddFacts(const ProfileWork& work, const Profile& p,
              const MachineFacts& m, Page* page) {
  const double median = Median(p.step_ms), gflops = p.cost.flops / median * 1e-6;
  const CpuInfo& cpu = Cpu();
  std::string rates;
  for (const Peak& peak : PeaksOf(m))
    rates += fmt::format("{}{:.1f} {}", rates.empty() ? "" : ", ", peak.gflops, peak.dtype);
  page->Facts(
      {{"work", fmt::format("{}, {}, batch {}{}", p.architecture,
                            work.method.empty() ? "inference" : work.method, work.batch,
                            p.length ? fmt::format(", {} tokens a text", p.length) : "")},
       {"step",
        fmt::format("{:.2f} ms (median of {}; least {:.2f}; median distance {:.2f}), "
                    "{:.1f} {}/s",
                    median, p.step_ms.size(), std::ranges::min(p.step_ms), Spread(p.step_ms),
                    1e3 * static_cast<double>(work.batch) / median, p.length ? "texts" : "images")},
       {"rate", fmt::format("{:.1f} GFLOP/s = {} of the f32 peak", gflops,
                            Percent(gflops / m.peak.gflops))},
       {"plan", p.plan},
       {"memory", fmt::format("{} planned, {} the process", Megabytes(p.planned_bytes),
                              Megabytes(p.peak_bytes))},
       {"machine", fmt::format("{}; {} threads, SIMD {}, {}", cpu.model, Threads(), ActiveIsa(),
                               p.products)},
       {"peaks",
        fmt::format("{} GFLOP/s{}", rates,
                    m.stored ? fmt::format(", measured {} before", AgeText(m.age_seconds)) : "")},
       {"counters", CountersText(p.counters)},
       {"version", kVersion}});
}

}  // namespace

Page ProfilePage(const ProfileWork& work, const Profile& p, const MachineFacts& m,
                 const std::vector<std::string>& warnings,
                 const std::optional<Numerics>& numerics) {
  const std::vector<NodeKind> kinds = KindsOf(p.nodes);
  const int inside = ThreadsInside(p);
  double total = 0;
  std::map<std::string, double> phases;
  for (const NodeKind& k : kinds) total += k.median_ms(), phases[k.phase] += k.median_ms();
  Page page(fmt::format("Profile of {}", p.architecture));
  for (const std::string& warning : warnings) page.Text(warning, "bad");
  AddFacts(work, p, m, &page);
  page.Heading("Roofline");
  page.Text(
      "A point is a kind of nodes: one phase, operator, layer, shape and kernel. The larger, the "
      "more of the step it takes. Bytes are what the operator reads and writes, whatever level "
      "they are in.",
      "soft");
  page.Chart(RooflineChart(kinds, m, inside, total));
  page.Heading("Kinds of nodes");
  std::string sums;
  for (const auto& [phase, ms] : phases)
    sums += fmt::format("{}{} {:.1f} ms", sums.empty() ? "" : ", ", phase, ms);
  page.Text(sums +
                ". The roof is the lower of the peak of the kernel's numbers and the bandwidth "
                "of the smallest level that holds what a call reads and writes.",
            "soft");
  page.Table(KindsTable(kinds, m, inside, total));
  if (numerics) AddNumerics(*numerics, &page);
  page.Heading("Nodes");
  page.Text("In the order in which they run.", "soft");
  page.Table(NodesTable(p, m, inside));
  return page;
}

}  // namespace graft
