#include "tools/lib/seeds.h"

#include <cmath>

#include "runtime/error.h"
#include "tools/lib/report.h"
#include "train/run_config_json.h"
#include "train/task_metrics.h"

namespace graft {
namespace {

constexpr const char* kMeasures[] = {"best", "val_accuracy", "final_train_loss", "seconds"};

std::string Shown(const std::string& measure, const nlohmann::json& value, bool share) {
  if (!value.is_number()) return "-";
  const double number = value.get<double>();
  if (measure == "val_accuracy" || (measure == "best" && share)) return Percent(number);
  return measure == "seconds" ? fmt::format("{:.1f}", number) : MeasureText(number);
}

}  // namespace

void CheckSameRun(const RunConfig& there, const RunConfig& now, const std::string& path) {
  const nlohmann::json a = ToJson(there), b = ToJson(now);
  for (const auto& [key, value] : b.items())
    // Hashes are compared when the run is resumed; runs of earlier versions lack some fields.
    if (!key.ends_with("_sha256") && key != "texts" && a[key] != value)
      Fail("{}: a run with {} = {}, now {}; hint: another --out, or --force", path, key,
           a[key].dump(), value.dump());
}

nlohmann::json SeedsJson(const std::string& out, const nlohmann::json& runs) {
  nlohmann::json mean = nlohmann::json::object(), spread = nlohmann::json::object();
  for (const char* measure : kMeasures) {
    double sum = 0, squares = 0, n = 0;
    for (const nlohmann::json& run : runs)
      if (run[measure].is_number()) sum += run[measure].get<double>(), ++n;
    mean[measure] = spread[measure] = nullptr;
    if (n == 0) continue;
    mean[measure] = sum / n;
    for (const nlohmann::json& run : runs)
      if (run[measure].is_number()) squares += std::pow(run[measure].get<double>() - sum / n, 2);
    if (n > 1) spread[measure] = std::sqrt(squares / (n - 1));
  }
  return {{"run", out},
          {"method", runs[0]["method"]},
          {"trainable_parameters", runs[0]["trainable_parameters"]},
          {"best_metric", runs[0]["best_metric"]},
          {"runs", runs},
          {"mean", mean},
          {"spread", spread}};
}

std::string SeedsText(const nlohmann::json& json) {
  TextTable table({1, 2, 3, 4});
  const std::string metric = json["best_metric"];
  const std::string titles[] = {"best " + metric, "last accuracy", "train loss", "seconds"};
  const auto known = [&](size_t i) { return json["mean"][kMeasures[i]].is_number(); };
  const auto add = [&](const std::string& name, const nlohmann::json& values) {
    std::vector<std::string> cells{name};
    for (size_t i = 0; i < std::size(kMeasures); ++i)
      if (known(i)) cells.push_back(Shown(kMeasures[i], values[kMeasures[i]], IsShare(metric)));
    table.Add(cells);
  };
  std::vector<std::string> head{"seed"};
  for (size_t i = 0; i < std::size(kMeasures); ++i)
    if (known(i)) head.push_back(titles[i]);
  table.Add(head);
  for (const nlohmann::json& run : json["runs"])
    add(std::to_string(run["seed"].get<int64_t>()), run);
  add("mean", json["mean"]), add("spread", json["spread"]);
  return table.Lines("  ");
}

}  // namespace graft
