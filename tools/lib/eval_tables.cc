#include "tools/lib/eval_tables.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "tools/lib/report.h"
#include "tools/lib/run_table.h"

namespace graft {
namespace {

constexpr size_t kMostRows = 30, kMostColumns = 12, kMostPairs = 10, kNameWidth = 24;

const std::string& NameOf(const std::vector<std::string>& labels, int64_t label) {
  return labels[label];
}

// A long name is cut, as a table is for looking at.
std::string ShortClass(const std::string& name, size_t width = kNameWidth) {
  return FitText(name, width + 1);
}

double Share(int64_t part, int64_t whole) {
  return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0;
}

// Which classes are taken for which others most often.
std::string MostConfused(const ConfusionMatrix& m, const std::vector<std::string>& labels,
                         const std::string& indent) {
  std::vector<std::pair<int64_t, std::pair<int64_t, int64_t>>> wrong;
  for (const auto& [cell, count] : m.cells())
    if (cell.first != cell.second) wrong.push_back({count, cell});
  if (wrong.empty()) return "";
  std::stable_sort(wrong.begin(), wrong.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  TextTable table({0});
  table.Add({"times", "label", "taken for"});
  for (const auto& [count, cell] : std::span(wrong).first(std::min(kMostPairs, wrong.size())))
    table.Add({Grouped(count), NameOf(labels, cell.first), NameOf(labels, cell.second)});
  std::string text = indent + "most confused\n" + table.Lines(indent + "  ");
  if (wrong.size() > kMostPairs)
    text += fmt::format("\n{}  and {} other pairs; all are in --json", indent,
                        wrong.size() - kMostPairs);
  return text;
}

}  // namespace

std::vector<ClassMeasures> MeasureClasses(const ConfusionMatrix& m) {
  std::map<int64_t, ClassMeasures> found;
  std::map<int64_t, int64_t> predicted;
  for (const auto& [cell, count] : m.cells()) {
    found[cell.first].n += count;
    found[cell.second].label = cell.second;
    found[cell.first].label = cell.first;
    predicted[cell.second] += count;
  }
  std::vector<ClassMeasures> classes;
  for (auto& [label, c] : found) {
    c.precision = Share(m.count(label, label), predicted[label]);
    c.recall = Share(m.count(label, label), c.n);
    c.f1 = F1(m, label);
    classes.push_back(c);
  }
  return classes;
}

nlohmann::json ClassesJson(const ConfusionMatrix& m, const std::vector<std::string>& labels) {
  nlohmann::json json = nlohmann::json::array();
  for (const ClassMeasures& c : MeasureClasses(m))
    json.push_back({{"class", c.label},
                    {"name", NameOf(labels, c.label)},
                    {"n", c.n},
                    {"precision", c.precision},
                    {"recall", c.recall},
                    {"f1", c.f1}});
  return json;
}

std::string ClassTable(const ConfusionMatrix& m, const std::vector<std::string>& labels,
                       const std::string& indent) {
  std::vector<ClassMeasures> classes = MeasureClasses(m);
  const size_t all = classes.size();
  if (all > kMostRows) {
    std::stable_sort(classes.begin(), classes.end(),
                     [](const auto& a, const auto& b) { return a.f1 < b.f1; });
    classes.resize(kMostRows);
  }
  TextTable table({1, 2, 3, 4});
  table.Add({"class", "n", "precision", "recall", "F1"});
  for (const ClassMeasures& c : classes)
    table.Add({ShortClass(NameOf(labels, c.label)), Grouped(c.n), Percent(c.precision),
               Percent(c.recall), Percent(c.f1)});
  std::string text = table.Lines(indent);
  if (all > kMostRows)
    text +=
        fmt::format("\n{}the worst {} of {} classes; all are in --json", indent, kMostRows, all);
  return text;
}

std::string ConfusionText(const ConfusionMatrix& m, const std::vector<std::string>& labels,
                          const std::string& indent) {
  std::vector<int64_t> classes;
  for (const ClassMeasures& c : MeasureClasses(m)) classes.push_back(c.label);
  const bool wrong = std::ranges::any_of(
      m.cells(), [](const auto& cell) { return cell.first.first != cell.first.second; });
  if (!wrong) return "";
  if (classes.size() > kMostColumns) return MostConfused(m, labels, indent);
  std::vector<size_t> right;
  std::vector<std::string> head{"label"};
  for (const int64_t predicted : classes) {
    right.push_back(head.size());
    head.push_back(ShortClass(NameOf(labels, predicted), 9));
  }
  TextTable table(right);
  table.Add(head);
  for (const int64_t label : classes) {
    std::vector<std::string> row{ShortClass(NameOf(labels, label))};
    for (const int64_t predicted : classes) {
      const int64_t count = m.count(label, predicted);
      row.push_back(count > 0 ? Grouped(count) : ".");
    }
    table.Add(std::move(row));
  }
  return indent + "predicted as\n" + table.Lines(indent);
}

WrongExample Judge(size_t example, int64_t label, std::span<const float> logits) {
  const auto best = std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float x : logits) sum += std::exp(static_cast<double>(x) - *best);
  return {example, label, best - logits.begin(), 1 / sum};
}

std::string ErrorsCsv(const std::vector<WrongExample>& wrong, const std::vector<std::string>& names,
                      const std::vector<std::string>& labels) {
  std::string text = "example,label,predicted,probability\n";
  for (const WrongExample& w : wrong)
    text += fmt::format("{},{},{},{:.6g}\n", CsvField(names[w.example]),
                        CsvField(NameOf(labels, w.label)), CsvField(NameOf(labels, w.predicted)),
                        w.probability);
  return text;
}

}  // namespace graft
