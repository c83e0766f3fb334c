#include "tools/profiles/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <numeric>
#include <set>
#include <tuple>

#include "tools/lib/report.h"
#include "tools/profiles/stats.h"

namespace graft {
namespace {

using Properties = std::vector<std::pair<std::string, std::string>>;

std::string ValueOf(const Properties& members, const std::string& name) {
  for (const auto& [key, value] : members)
    if (key == name) return value;
  return "";
}

// A text such as "batch_size: 8 and 16; length: 64 and 128", or "".
std::string Differences(const Properties& a, const Properties& b, const std::string& between) {
  std::set<std::string> names;
  for (const Properties& members : {a, b})
    for (const auto& [name, value] : members) names.insert(name);
  std::string text;
  for (const std::string& name : names) {
    const std::string x = ValueOf(a, name), y = ValueOf(b, name);
    if (x != y)
      text += fmt::format("{}{} '{}' {} '{}'", text.empty() ? "" : ", ", name, x, between, y);
  }
  return text;
}

void RefuseOtherWork(const StoredProfile& a, const StoredProfile& b) {
  if (const std::string other = Differences(a.cpu, b.cpu, "and"); !other.empty())
    Fail("{} and {} are of two machines, whose times cannot be compared: {}", a.path, b.path,
         other);
  if (const std::string other = Differences(a.work, b.work, "and"); !other.empty())
    Fail("{} and {} did not do the same work: {}", a.path, b.path, other);
}

// The smallest p-value of samples of these sizes: that of samples which do not overlap.
double LeastP(size_t n, size_t m) {
  std::vector<double> low(n), high(m);
  std::iota(low.begin(), low.end(), 0);
  std::iota(high.begin(), high.end(), static_cast<double>(n));
  return MannWhitney(low, high);
}

std::vector<std::string> Notes(const StoredProfile& a, const StoredProfile& b) {
  std::vector<std::string> notes;
  if (a.version != b.version)
    notes.push_back(fmt::format("versions: '{}' before, '{}' after", a.version, b.version));
  if (const std::string other = Differences(a.settings, b.settings, "->"); !other.empty())
    notes.push_back("settings that differ: " + other);
  for (const StoredProfile* p : {&a, &b})
    for (const std::string& disturbance : p->disturbances)
      notes.push_back(fmt::format("{}: {}", p->path, disturbance));
  const size_t n = a.steps_ms.size(), m = b.steps_ms.size();
  if (const double best = LeastP(n, m); best >= kSignificant)
    notes.push_back(fmt::format(
        "{} and {} steps are too few to tell anything from noise (p = {:.2g} at best); hint: "
        "--steps 20",
        n, m, best));
  return notes;
}

// The operator's name, whatever its precision.
std::string PlainOp(const std::string& op) { return op.starts_with("low_") ? op.substr(4) : op; }

struct Pair {
  std::vector<double> ms[2];
  std::set<std::string> impls[2];
};

std::string Impls(const Pair& pair) {
  const auto join = [](const std::set<std::string>& s) {
    return s.empty() ? std::string("none") : fmt::format("{}", fmt::join(s, "|"));
  };
  const std::string a = join(pair.impls[0]), b = join(pair.impls[1]);
  return a == b ? a : a + " -> " + b;
}

// Corrects the p-values for the number of tests. Kinds that one side does not have are none.
void Holm(std::vector<Change>& changes) {
  std::vector<Change*> by_p;
  for (Change& c : changes)
    if (c.both) by_p.push_back(&c);
  std::ranges::sort(by_p, {}, [](const Change* c) { return c->p; });
  double most = 0;
  for (size_t i = 0; i < by_p.size(); ++i) {
    most = std::max(most, std::min(1.0, by_p[i]->p * static_cast<double>(by_p.size() - i)));
    by_p[i]->p = most;
  }
}

nlohmann::json ChangeJson(const Change& c, double limit) {
  return {{"before_ms", c.before_ms},
          {"after_ms", c.after_ms},
          {"change", c.share()},
          {"p", c.p},
          {"significant", c.p < kSignificant},
          {"slower", IsSlower(c, limit)}};
}

std::string Signed(double share) {
  return std::isfinite(share) ? fmt::format("{:+.1f}%", 100 * share) : "-";
}

const char* Verdict(const Change& c, double limit) {
  if (c.p >= kSignificant) return "";
  if (IsSlower(c, limit)) return "slower";
  return c.share() < 0 ? "faster" : "within the limit";
}

}  // namespace

Comparison CompareProfiles(const StoredProfile& a, const StoredProfile& b) {
  RefuseOtherWork(a, b);
  Comparison c;
  c.notes = Notes(a, b);
  c.before_bytes = a.planned_bytes, c.after_bytes = b.planned_bytes;
  c.total = {"", "step", "", "", ""};
  c.total.before_ms = Median(a.steps_ms), c.total.after_ms = Median(b.steps_ms);
  c.total.p = MannWhitney(a.steps_ms, b.steps_ms);
  const bool shapes = ValueOf(a.settings, "micro_batch") == ValueOf(b.settings, "micro_batch");
  std::map<std::tuple<std::string, std::string, std::string, std::string>, Pair> pairs;
  for (const int side : {0, 1})
    for (const StoredKind& k : (side ? b : a).kinds) {
      Pair& pair = pairs[{k.phase, PlainOp(k.op), k.layer, shapes ? k.shape : "any"}];
      pair.ms[side].resize(k.steps_ms.size());
      for (size_t i = 0; i < k.steps_ms.size(); ++i) pair.ms[side][i] += k.steps_ms[i];
      pair.impls[side].insert(k.impl);
    }
  for (const auto& [key, pair] : pairs) {
    const auto& [phase, op, layer, shape] = key;
    c.kinds.push_back({phase, op, layer, shape, Impls(pair), Median(pair.ms[0]), Median(pair.ms[1]),
                       MannWhitney(pair.ms[0], pair.ms[1]),
                       !pair.ms[0].empty() && !pair.ms[1].empty()});
  }
  const auto tests = std::ranges::count(c.kinds, true, &Change::both);
  Holm(c.kinds);
  const double best = LeastP(a.steps_ms.size(), b.steps_ms.size());
  if (best < kSignificant && best * static_cast<double>(tests) >= kSignificant)
    c.notes.push_back(
        fmt::format("{} and {} steps are enough for the step as a whole, and too few to tell which "
                    "of {} kinds are slower; hint: --steps 20",
                    a.steps_ms.size(), b.steps_ms.size(), tests));
  std::ranges::stable_sort(c.kinds, std::greater(),
                           [](const Change& k) { return std::abs(k.after_ms - k.before_ms); });
  return c;
}

double ParsePercent(const std::string& text) {
  const char* end = text.data() + text.size();
  double value = 0;
  const auto [at, error] = std::from_chars(text.data(), end, value);
  const std::string_view unit(at, static_cast<size_t>(end - at));
  if (error != std::errc() || (unit != "%" && unit != " %"))
    FailUsage("--fail-over '{}': expected percent of the time before, e.g. 5%", text);
  if (!(value >= 0 && value <= 1000)) FailUsage("--fail-over {}: expected 0% to 1000%", text);
  return value / 100;
}

void CheckCanTell(const StoredProfile& before, const StoredProfile& after) {
  const size_t n = before.steps_ms.size(), m = after.steps_ms.size();
  if (const double best = LeastP(n, m); best >= kSignificant)
    Fail(
        "--fail-over: {} and {} have {} and {} steps, of which no difference can be significant "
        "(p = {:.2g} at best, {} is wanted); hint: --steps 20 for both",
        before.path, after.path, n, m, best, kSignificant);
}

bool IsSlower(const Change& c, double limit) {
  return c.p < kSignificant && c.after_ms > (1 + limit) * c.before_ms;
}

std::string ComparisonText(const Comparison& c, double limit, int64_t top) {
  std::string text;
  for (const std::string& note : c.notes) text += "note: " + note + "\n";
  TextTable table({4, 5, 6, 7});
  table.Add(
      {"phase", "operator", "layer", "MxNxK", "before", "after", "change", "p", "", "kernel"});
  for (size_t i = 0; i < c.kinds.size() && i < static_cast<size_t>(top); ++i) {
    const Change& k = c.kinds[i];
    table.Add({k.phase, k.op, k.layer, k.shape, fmt::format("{:.3f}", k.before_ms),
               fmt::format("{:.3f}", k.after_ms),
               k.before_ms > 0 && k.after_ms > 0 ? Signed(k.share()) : "-",
               fmt::format("{:.2g}", k.p), Verdict(k, limit), k.impl});
  }
  text += table.Lines("");
  text += fmt::format(
      "\n(ms of a step, medians; p: Mann-Whitney over the steps, corrected for {} kinds; "
      "significant below {})",
      c.kinds.size(), kSignificant);
  const bool significant = c.total.p < kSignificant;
  text += fmt::format("\nstep: {:.2f} ms -> {:.2f} ms, {} (p = {:.2g}{})", c.total.before_ms,
                      c.total.after_ms, Signed(c.total.share()), c.total.p,
                      significant ? "" : ": may be noise");
  if (c.before_bytes != c.after_bytes)
    text += fmt::format("\nplanned memory: {:.1f} MiB -> {:.1f} MiB", c.before_bytes / (1 << 20),
                        c.after_bytes / (1 << 20));
  return text;
}

nlohmann::json ComparisonJson(const Comparison& c, double limit) {
  nlohmann::json kinds = nlohmann::json::array();
  for (const Change& k : c.kinds) {
    nlohmann::json json = ChangeJson(k, limit);
    json.update({{"phase", k.phase},
                 {"op", k.op},
                 {"layer", k.layer},
                 {"shape", k.shape},
                 {"impl", k.impl}});
    kinds.push_back(std::move(json));
  }
  nlohmann::json json = ChangeJson(c.total, limit);
  json["kinds"] = kinds, json["notes"] = c.notes;
  json["planned_bytes"] = {{"before", c.before_bytes}, {"after", c.after_bytes}};
  return json;
}

}  // namespace graft
