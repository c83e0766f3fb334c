#include "tools/reports/run_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "runtime/error.h"
#include "runtime/io/json.h"
#include "tools/lib/progress_meter.h"
#include "tools/lib/report.h"
#include "tools/lib/run_table.h"
#include "tools/reports/charts.h"
#include "tools/reports/quality_report.h"
#include "tools/reports/rewrite_report.h"
#include "train/run_dir.h"
#include "train/run_summary.h"
#include "train/task_metrics.h"

namespace graft {
namespace {

constexpr double kMost = 1e15;  // what is more is no number of bytes, seconds or parameters

using Lines = std::vector<nlohmann::json>;

std::string Words(const nlohmann::json& value) {
  return value.is_null()     ? ""
         : value.is_string() ? value.get<std::string>()
                             : value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

double NumberAt(const nlohmann::json& line, const std::string& key) {
  const auto it = line.find(key);
  return it != line.end() && it->is_number() ? it->get<double>() : NAN;
}

// Draws one line over the epochs for each of these measures that the run has.
nlohmann::json CourseChart(const Lines& lines, const std::vector<std::string>& measures,
                           const std::string& title) {
  nlohmann::json sets = nlohmann::json::array(), labels = nlohmann::json::array();
  for (const nlohmann::json& line : lines) labels.push_back(line.value("epoch", nlohmann::json()));
  for (const std::string& measure : measures) {
    nlohmann::json data = nlohmann::json::array();
    bool any = false;
    for (const nlohmann::json& line : lines) {
      const double value = NumberAt(line, measure);
      data.push_back(std::isnan(value) ? nlohmann::json() : nlohmann::json(value));
      any = any || !std::isnan(value);
    }
    if (any) sets.push_back({{"label", measure}, {"data", data}, {"tension", 0}});
  }
  return LabelledChart("line", title, labels, sets, Axis("epoch"), Axis(""));
}

// Measures of one scale share a chart: losses, shares of 1, errors, correlations.
void AddCourse(const Lines& lines, const std::string& task, Page* page) {
  std::vector<std::string> shares, errors{"val_perplexity"}, others;
  for (const MetricInfo& metric : MetricsOf(task))
    if (std::string_view(metric.name) != "loss")
      (metric.share     ? shares
       : metric.smaller ? errors
                        : others)
          .push_back("val_" + std::string(metric.name));
  page->BeginGrid();
  for (const auto& [measures, title] :
       {std::pair(std::vector<std::string>{"train_loss", "val_loss"}, "loss"),
        {shares, "validation"},
        {errors, "validation: errors"},
        {others, "validation: correlations"},
        {{"lr"}, "rate"}})
    if (const nlohmann::json chart = CourseChart(lines, measures, title); !chart.is_null())
      page->Chart(chart, true);
  page->EndGrid();
}

HtmlTable EpochsTable(const Lines& lines) {
  HtmlTable table;
  for (const nlohmann::json& line : lines)
    for (const auto& [key, value] : line.items())
      if (value.is_number() && std::ranges::find(table.titles, key) == table.titles.end())
        table.titles.push_back(key);
  std::ranges::stable_partition(table.titles, [](const std::string& t) { return t == "epoch"; });
  table.numbers.assign(table.titles.size(), true);
  for (const nlohmann::json& line : lines) {
    std::vector<HtmlCell> row;
    for (const std::string& title : table.titles) {
      const double value = NumberAt(line, title);
      row.push_back(NumberCell(value, fmt::format("{:.6g}", value)));
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

void AddFacts(const std::string& run, const nlohmann::json& row, Page* page) {
  const nlohmann::json found = ReadSummary(run);
  const nlohmann::json summary = found.is_object() ? found : nlohmann::json::object();
  const auto count = [](const nlohmann::json& object, const char* key) -> std::string {
    const double value = NumberAt(object, key);
    return value >= 0 && value < kMost ? Grouped(static_cast<int64_t>(value)) : "";
  };
  // Less than a MiB is not worth a line.
  const auto bytes = [&](const char* key) -> std::string {
    const double value = NumberAt(summary, key);
    return value >= 1 << 20 && value < kMost ? Megabytes(static_cast<size_t>(value)) : "";
  };
  const double seconds = NumberAt(row, "seconds"), rate = NumberAt(summary, "examples_per_second");
  const nlohmann::json best = row.value("best", nlohmann::json());
  std::string epochs = Words(row["epochs"]);
  if (const std::string done = Words(row.value("epochs_done", nlohmann::json()));
      !done.empty() && done != epochs)
    epochs = done + " of " + epochs;
  page->Facts({{"model", Words(row["model"])},
               {"data", Words(row["data"])},
               {"method", Words(row["method"])},
               {"task", Words(row["task"])},
               {"status", Words(row["status"])},
               {"epochs", epochs},
               {"best " + Words(row["metric"]),
                best.is_null() ? ""
                               : fmt::format("{} (epoch {})", best.dump(),
                                             Words(row.value("best_epoch", nlohmann::json())))},
               {"trained numbers", count(row, "trainable_parameters")},
               {"time", seconds >= 0 && seconds < kMost ? DurationText(seconds) : ""},
               {"speed", rate > 0 ? fmt::format("{:.4g} examples/s", rate) : ""},
               {"planned memory", bytes("planned_bytes")},
               {"peak memory", bytes("peak_memory_bytes")},
               {"machine", Words(summary.value("machine", nlohmann::json()))},
               {"graft", Words(summary.value("version", nlohmann::json()))},
               {"command", Words(summary.value("command", nlohmann::json()))},
               {"again", fmt::format("graft train --config {} --out OTHER",
                                     ShellWord(run + "/config.json"))}});
}

// Says what cannot be shown, both on the page and by the command.
void Note(const std::string& note, Page* page, ReportNotes* notes) {
  page->Text(note + ".", "bad");
  notes->notes.push_back(note);
}

void AddMeasured(const std::string& run, const RunReportOptions& o, const CommonOptions& common,
                 Page* page, ReportNotes* notes) {
  const RunQuality q = MeasureRun(run, o.split, o.limit, common);
  AddQuality(q, page);
  nlohmann::json measured{{"run", run}, {"split", q.split}, {"n", q.metrics.n}};
  if (q.masked_words)
    measured["accuracy"] = q.metrics.accuracy, measured["loss"] = q.metrics.loss;
  else
    for (const MetricInfo& metric : MetricsOf(q.task))
      measured[metric.name] = metric.value(q.metrics);
  notes->measured.push_back(std::move(measured));
}

// Adds the parts that open model and data, which may be gone.
void AddOpened(const std::string& run, const RunReportOptions& o, const CommonOptions& common,
               Page* page, ReportNotes* notes) {
  const auto attempt = [&](const char* what, const std::function<void()>& part) {
    try {
      part();
    } catch (const Error& e) {
      if (e.kind == ErrorKind::kUsage && !o.split.empty()) throw;
      Note(fmt::format("{}: {}: {}", run, what, e.what()), page, notes);
    }
  };
  attempt("not measured on examples", [&] { AddMeasured(run, o, common, page, notes); });
  attempt("without the picture of its method",
          [&] { AddRewrite(RunDir::Open(run).config(), page); });
}

}  // namespace

void AddRun(const std::string& run, const RunReportOptions& o, const CommonOptions& common,
            Page* page, ReportNotes* notes) {
  nlohmann::json row = DescribeRun(run);
  if (row.contains("error")) Fail("{}: {}", run, row["error"].get<std::string>());
  page->Heading((o.of_search ? "what the search found, as a run: " : "run: ") + run);
  size_t damaged = 0;
  const Lines lines = ReadMetrics(run, &damaged);
  if (o.of_search && lines.empty())
    row["status"] = "not trained on", row["epochs"] = row["seconds"] = nullptr;
  const nlohmann::json summary = ReadSummary(run);
  const bool inherited = o.of_search && !lines.empty() && summary.is_object() &&
                         summary.value("best_epoch", nlohmann::json()).is_null();
  if (inherited) row["best"] = nullptr;
  AddFacts(run, row, page);
  if (damaged > 0)
    Note(fmt::format("{}/metrics.jsonl: {} damaged {} left out", run, damaged,
                     damaged == 1 ? "line is" : "lines are"),
         page, notes);
  if (lines.empty())
    page->Text(o.of_search ? fmt::format("The weights are those of the supernet; graft train "
                                         "--resume {} trains them on.",
                                         ShellWord(run))
                           : "No epoch is finished yet.",
               "soft");
  if (inherited)
    page->Text("No epoch is better than the weights of the supernet, which stay the best.", "soft");
  AddCourse(lines, Words(row["task"]), page);
  if (!lines.empty()) page->Table(EpochsTable(lines));
  if (o.evaluate) AddOpened(run, o, common, page, notes);
  page->BeginDetails("Settings");
  std::vector<std::pair<std::string, std::string>> settings;
  const nlohmann::json config = ReadJson(run + "/config.json");
  for (const auto& [key, value] : config.items()) settings.emplace_back(key, Words(value));
  page->Facts(settings);
  page->EndDetails();
}

}  // namespace graft
