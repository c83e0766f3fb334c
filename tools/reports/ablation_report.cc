#include "tools/reports/ablation_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>

#include "suites/unit.h"
#include "tools/reports/charts.h"

namespace graft {
namespace {

constexpr size_t kMostLines = 10;

struct AxisOfValues {
  std::string option;
  std::vector<nlohmann::json> values;  // in the order of the rows
};

std::vector<AxisOfValues> AxesOf(const SuiteMatrix& m) {
  std::vector<AxisOfValues> axes;
  for (const TableRow& row : m.rows)
    for (const auto& [option, value] : row.options.items()) {
      auto at = std::ranges::find(axes, option, &AxisOfValues::option);
      if (at == axes.end()) at = axes.insert(at, {option, {}});
      if (std::ranges::find(at->values, value) == at->values.end()) at->values.push_back(value);
    }
  std::erase_if(axes, [](const AxisOfValues& axis) { return axis.values.size() < 2; });
  return axes;
}

std::string TextOf(const nlohmann::json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

// The number of a value; NaN for a word.
double NumberOf(const nlohmann::json& value) {
  if (value.is_number()) return value.get<double>();
  const std::string text = TextOf(value);
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  return whole && std::isfinite(number) ? number : NAN;
}

struct Variant {
  nlohmann::json value;  // of the axis
  double mean, spread;
};

// The rows with a number, by what they have besides the axis. If there are more combinations than a
// chart can tell apart, their mean.
std::map<std::string, std::vector<Variant>> LinesOf(const SuiteMatrix& m,
                                                    const AxisOfValues& axis) {
  std::map<std::string, std::vector<Variant>> lines;
  for (size_t row = 0; row < m.rows.size(); ++row) {
    nlohmann::json others = m.rows[row].options;
    if (!others.contains(axis.option) || std::isnan(m.means[row])) continue;
    others.erase(axis.option);
    const std::string name = others.empty() ? m.rows[row].method : OptionsText(others);
    lines[name].push_back({m.rows[row].options[axis.option], m.means[row], SpreadOfJudged(m, row)});
  }
  if (lines.size() <= kMostLines) return lines;
  std::vector<Variant> means;
  for (const nlohmann::json& value : axis.values) {
    std::vector<double> all;
    for (const auto& [name, variants] : lines)
      for (const Variant& v : variants)
        if (v.value == value) all.push_back(v.mean);
    if (!all.empty()) means.push_back({value, MeanAndSpread(all).first, MeanAndSpread(all).second});
  }
  return {{fmt::format("mean of {} combinations", lines.size()), means}};
}

nlohmann::json AxisChart(const SuiteMatrix& m, const AxisOfValues& axis) {
  double least = INFINITY, most = -INFINITY;
  bool numbers = true;
  for (const nlohmann::json& value : axis.values) {
    const double number = NumberOf(value);
    numbers = numbers && !std::isnan(number);
    least = std::min(least, number), most = std::max(most, number);
  }
  nlohmann::json sets = nlohmann::json::array(), labels = nlohmann::json::array();
  for (const nlohmann::json& value : axis.values) labels.push_back(TextOf(value));
  for (auto& [name, variants] : LinesOf(m, axis)) {
    std::vector<Variant> sorted = variants;
    if (numbers)
      std::ranges::stable_sort(sorted, {}, [](const Variant& v) { return NumberOf(v.value); });
    nlohmann::json data = nlohmann::json::array();
    for (const Variant& v : sorted)
      data.push_back(
          PointOf(numbers ? nlohmann::json(NumberOf(v.value)) : nlohmann::json(TextOf(v.value)),
                  v.mean, v.spread));
    sets.push_back({{"label", name}, {"data", data}});
    if (numbers) sets.back()["showLine"] = true;
  }
  if (numbers)
    return ScatterChart("accuracy over " + axis.option, sets,
                        Axis(axis.option, least > 0 && most > 8 * least), Axis("%"));
  return LabelledChart("bar", axis.option, labels, sets, nlohmann::json::object(), Axis("%"));
}

}  // namespace

void AddAxes(const SuiteMatrix& m, Page* page) {
  const std::vector<AxisOfValues> axes = AxesOf(m);
  HtmlTable table{{"option", "value", "variants", "mean, %", "best, %", "best variant"},
                  {false, false, true, true, true, false}};
  page->BeginGrid();
  for (const AxisOfValues& axis : axes) {
    if (const nlohmann::json chart = AxisChart(m, axis); !chart.is_null()) page->Chart(chart);
    for (const nlohmann::json& value : axis.values) {
      double sum = 0, best = -INFINITY;
      int64_t count = 0;
      std::string name = "-";
      for (size_t row = 0; row < m.rows.size(); ++row) {
        if (m.rows[row].options.value(axis.option, nlohmann::json()) != value) continue;
        if (std::isnan(m.means[row])) continue;
        ++count, sum += m.means[row];
        if (m.means[row] > best) best = m.means[row], name = RowName(m.rows[row]);
      }
      table.rows.push_back({{axis.option},
                            {TextOf(value), NumberOf(value)},
                            CountCell(count),
                            ShareCell(count ? sum / static_cast<double>(count) : NAN),
                            ShareCell(count ? best : NAN),
                            {name}});
    }
  }
  page->EndGrid();
  if (table.rows.empty()) return;
  page->Heading("What each value comes to", 3);
  page->Text("Over all combinations of the other options that have a number for every task.",
             "soft");
  page->Table(table);
}

}  // namespace graft
