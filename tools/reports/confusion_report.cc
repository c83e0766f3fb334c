#include "tools/reports/confusion_report.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/utf8.h"
#include "tools/lib/eval_tables.h"
#include "tools/lib/report.h"

namespace graft {
namespace {

constexpr size_t kMostMatrix = 24, kMostPairs = 30, kPairsBesideMatrix = 12, kNameLetters = 28;

void AddClasses(const std::vector<ClassMeasures>& classes, const std::vector<std::string>& labels,
                Page* page) {
  page->Heading("Classes, in percent", 3);
  HtmlTable table{{"class", "examples", "precision", "recall", "F1"},
                  {false, true, true, true, true}};
  for (const ClassMeasures& c : classes)
    table.rows.push_back({{labels[c.label]},
                          CountCell(c.n),
                          ShareCell(c.precision),
                          ShareCell(c.recall),
                          ShareCell(c.f1)});
  page->Table(table);
}

void AddMatrix(const ConfusionMatrix& m, const std::vector<ClassMeasures>& classes,
               const std::vector<std::string>& labels, Page* page) {
  page->Heading("Predictions", 3);
  page->Text(
      "A row for each class, with what its examples were taken for; the colour is the share of "
      "them.",
      "soft");
  HtmlTable table{{"class"}, {false}};
  table.matrix = true;
  for (const ClassMeasures& c : classes) {
    table.titles.push_back(CutText(labels[c.label], kNameLetters));
    table.numbers.push_back(true);
  }
  for (const ClassMeasures& row : classes) {
    std::vector<HtmlCell>& cells = table.rows.emplace_back();
    cells.push_back({CutText(labels[row.label], kNameLetters)});
    for (const ClassMeasures& column : classes) {
      const int64_t count = m.count(row.label, column.label);
      HtmlCell cell = CountCell(count);
      if (count == 0) cell.text = "·";
      const double share =
          static_cast<double>(count) / static_cast<double>(std::max<int64_t>(row.n, 1));
      cell.shade = row.label == column.label ? share : -share;
      cells.push_back(cell);
    }
  }
  page->Table(table);
}

void AddPairs(const ConfusionMatrix& m, const std::vector<ClassMeasures>& classes,
              const std::vector<std::string>& labels, size_t most, Page* page) {
  std::vector<std::pair<int64_t, std::pair<int64_t, int64_t>>> wrong;
  for (const auto& [cell, count] : m.cells())
    if (cell.first != cell.second) wrong.push_back({count, cell});
  if (wrong.empty()) return page->Text("Every example is predicted rightly.");
  std::ranges::stable_sort(wrong, [](const auto& a, const auto& b) { return a.first > b.first; });
  page->Heading("Most confused", 3);
  HtmlTable table{{"class", "taken for", "times", "of its examples, %"},
                  {false, false, true, true}};
  for (const auto& [count, cell] : std::span(wrong).first(std::min(most, wrong.size()))) {
    const auto of = std::ranges::find(classes, cell.first, &ClassMeasures::label);
    table.rows.push_back({{labels[cell.first]},
                          {labels[cell.second]},
                          CountCell(count),
                          ShareCell(static_cast<double>(count) / static_cast<double>(of->n))});
  }
  page->Table(table);
  if (wrong.size() > most)
    page->Text(fmt::format("And {} other pairs; graft eval --json has all.",
                           Grouped(std::ssize(wrong) - std::ssize(table.rows))),
               "soft");
}

}  // namespace

void AddConfusion(const ConfusionMatrix& m, const std::vector<std::string>& labels, Page* page) {
  const std::vector<ClassMeasures> classes = MeasureClasses(m);
  const bool few = classes.size() <= kMostMatrix;
  page->BeginColumns();
  AddClasses(classes, labels, page);
  page->NextColumn();
  if (few) AddMatrix(m, classes, labels, page);
  if (few) page->NextColumn();
  AddPairs(m, classes, labels, few ? kPairsBesideMatrix : kMostPairs, page);
  page->EndColumns();
}

std::string CutText(const std::string& text, size_t most) {
  const std::u32string letters = DecodeUtf8(text);
  if (letters.size() <= most) return text;
  std::string cut;
  for (size_t i = 0; i < most; ++i) AppendUtf8(letters[i], cut);
  return cut + "…";
}

}  // namespace graft
