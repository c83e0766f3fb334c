#include "tools/reports/run_report.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/error.h"
#include "runtime/io/json.h"
#include "tools/lib/report.h"
#include "tools/lib/run_table.h"

namespace graft {
namespace {

std::string Words(const nlohmann::json& value) {
  return value.is_null() ? "" : value.is_string() ? value.get<std::string>() : value.dump();
}

// One line over the epochs for each of these measures that the run has.
nlohmann::json CourseChart(const std::vector<nlohmann::json>& lines,
                           const std::vector<std::string>& measures, const std::string& title) {
  nlohmann::json sets = nlohmann::json::array(), labels = nlohmann::json::array();
  for (const nlohmann::json& line : lines) labels.push_back(line.value("epoch", nlohmann::json()));
  for (const std::string& measure : measures) {
    nlohmann::json data = nlohmann::json::array();
    bool any = false;
    for (const nlohmann::json& line : lines) {
      data.push_back(line.value(measure, nlohmann::json()));
      any = any || data.back().is_number();
    }
    if (any) sets.push_back({{"label", measure}, {"data", data}, {"tension", 0}});
  }
  if (sets.empty()) return {};
  return {{"type", "line"},
          {"data", {{"labels", labels}, {"datasets", sets}}},
          {"options",
           {{"plugins", {{"title", {{"display", true}, {"text", title}}}}},
            {"scales", {{"x", {{"title", {{"display", true}, {"text", "epoch"}}}}}}}}}};
}

HtmlTable EpochsTable(const std::vector<nlohmann::json>& lines) {
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
      const double value =
          line.contains(title) && line[title].is_number() ? line[title].get<double>() : NAN;
      row.push_back(NumberCell(value, fmt::format("{:.6g}", value)));
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

}  // namespace

void AddRun(const std::string& run, Page* page) {
  const nlohmann::json row = DescribeRun(run);
  if (row.contains("error")) Fail("{}: {}", run, row["error"].get<std::string>());
  page->Heading("run: " + run);
  const auto number = [&](const char* key) -> std::string {
    return row.contains(key) && row[key].is_number() ? Grouped(row[key].get<int64_t>()) : "";
  };
  const nlohmann::json best = row.value("best", nlohmann::json());
  page->Facts({{"model", Words(row["model"])},
               {"data", Words(row["data"])},
               {"method", Words(row["method"])},
               {"status", Words(row["status"])},
               {"best " + Words(row["metric"]),
                best.is_null() ? ""
                               : fmt::format("{} (epoch {})", best.dump(),
                                             Words(row.value("best_epoch", nlohmann::json())))},
               {"trained numbers", number("trainable_parameters")},
               {"seconds", Words(row["seconds"])},
               {"peak memory, bytes", number("peak_memory_bytes")}});
  const std::vector<nlohmann::json> lines = ReadMetrics(run);
  if (lines.empty()) page->Text("No epoch is finished yet.", "soft");
  page->BeginGrid();
  for (const auto& [measures, title] :
       {std::pair(std::vector<std::string>{"train_loss", "val_loss"}, "loss"),
        {{"val_accuracy", "val_mean_class_accuracy", "val_macro_f1"}, "validation"},
        {{"lr"}, "rate"}})
    if (const nlohmann::json chart = CourseChart(lines, measures, title); !chart.is_null())
      page->Chart(chart, true);
  page->EndGrid();
  if (!lines.empty()) page->Table(EpochsTable(lines));
  page->Heading("Settings", 3);
  std::vector<std::pair<std::string, std::string>> settings;
  const nlohmann::json config = ReadJson(run + "/config.json");
  for (const auto& [key, value] : config.items()) settings.emplace_back(key, Words(value));
  page->Facts(settings);
}

}  // namespace graft
