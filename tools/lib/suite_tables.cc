#include "tools/lib/suite_tables.h"

#include <algorithm>
#include <set>

#include "suites/table.h"
#include "tools/lib/report.h"

namespace graft {
namespace {

std::string WithSpread(double mean, double spread) {
  return std::isnan(spread) ? InPercent(mean)
                            : fmt::format("{}±{:.1f}", InPercent(mean), 100 * spread);
}

std::string CellText(const ScoreCell* cell) {
  if (!cell) return "-";
  std::string text = WithSpread(cell->mean, cell->spread);
  if (cell->scores.empty() && cell->failed > 0) text = "failed";
  return text + (cell->chosen_on_test && !cell->scores.empty() ? "*" : "");
}

std::string Parameters(const std::vector<ScoreCell>& cells, const TableRow& row) {
  int64_t least = 0, most = 0;  // heads differ from task to task
  for (const ScoreCell& c : cells) {
    if (c.method != row.method || c.options != row.options || c.scores.empty()) continue;
    least = least == 0 ? c.trainable_parameters : std::min(least, c.trainable_parameters);
    most = std::max(most, c.trainable_parameters);
  }
  if (most == 0) return "-";
  return least == most ? Grouped(most) : fmt::format("{}-{}", Grouped(least), Grouped(most));
}

std::vector<size_t> AllButFirst(size_t columns) {
  std::vector<size_t> right;
  for (size_t i = 1; i < columns; ++i) right.push_back(i);
  return right;
}

// The mean over the tasks, if all of them have a score.
std::string MeanOf(const std::vector<ScoreCell>& cells, const TableRow& row,
                   const std::vector<TableColumn>& columns) {
  std::vector<double> means;
  bool marked = false;
  for (const TableColumn& column : columns) {
    const ScoreCell* cell = FindCell(cells, row, column.task);
    if (!cell || std::isnan(cell->mean)) return "-";
    means.push_back(cell->mean), marked |= cell->chosen_on_test;
  }
  return InPercent(MeanAndSpread(means).first) + (marked ? "*" : "");
}

std::string TaskTable(const SuiteInfo& info, const std::vector<ScoreCell>& cells) {
  const std::vector<TableColumn> columns = ColumnsOf(info, cells);
  const bool vtab = info.kind == "vtab", mean = !vtab && columns.size() > 1;
  const std::vector<VtabScore> scores = vtab ? VtabScores(cells) : std::vector<VtabScore>();
  std::vector<std::string> titles{info.kind == "ablate" ? "variant" : "method"};
  for (const TableColumn& column : columns) titles.push_back(column.title);
  if (vtab)
    for (const char* title : {"natural", "special.", "struct.", "score", "mean"})
      titles.emplace_back(title);
  if (mean) titles.emplace_back("mean");
  titles.emplace_back("parameters");
  TextTable table(AllButFirst(titles.size()));
  table.Add(titles);
  for (const TableRow& row : RowsOf(cells)) {
    std::vector<std::string> line{RowName(row)};
    for (const TableColumn& column : columns)
      line.push_back(CellText(FindCell(cells, row, column.task)));
    if (vtab) {
      const VtabScore& s = *std::ranges::find(scores, row.method, &VtabScore::method);
      const auto share = [&](double value, double spread) {
        return WithSpread(value, spread) + (s.chosen_on_test && !std::isnan(value) ? "*" : "");
      };
      for (const char* group : kVtabGroups) line.push_back(share(s.groups.at(group), NAN));
      line.push_back(share(s.score, s.spread)), line.push_back(share(s.mean, NAN));
    }
    if (mean) line.push_back(MeanOf(cells, row, columns));
    line.push_back(Parameters(cells, row));
    table.Add(line);
  }
  return table.Lines("  ");
}

std::string ShiftTable(const std::vector<ScoreCell>& cells) {
  TextTable table({2, 3, 4, 5});
  table.Add({"method", "domain", "accuracy", "at home", "drop", "relative drop"});
  for (const ScoreCell& cell : cells) {
    table.Add({ShortMethod(cell.method), cell.task, CellText(&cell), "", "", ""});
    const char* mark = cell.chosen_on_test ? "*" : "";
    for (const nlohmann::json& target : cell.targets) {
      const auto share = [&](const char* key) {
        const ShareOf s = TargetShare(target, key);
        return std::isnan(s.mean) ? "-" : WithSpread(s.mean, s.spread) + mark;
      };
      const std::string relative = share("relative_drop");
      // With a mask the drop is from the accuracy among its classes alone.
      const bool masked = target.contains("source_accuracy");
      table.Add({"", target["name"], share("accuracy"),
                 masked ? share("source_accuracy") : CellText(&cell), share("drop"),
                 relative == "-" ? relative : relative + " %"});
    }
  }
  return table.Lines("  ");
}

}  // namespace

std::string SuiteTable(const SuiteInfo& info, const std::vector<UnitRow>& units) {
  const std::vector<ScoreCell> cells = Cells(info.kind, units);
  return info.kind == "shift" ? ShiftTable(cells) : TaskTable(info, cells);
}

std::vector<std::string> SuiteRemarks(const SuiteInfo& info, const std::vector<UnitRow>& units) {
  std::vector<std::string> remarks;
  const std::vector<ScoreCell> cells = Cells(info.kind, units);
  std::set<std::string> missing, metrics;
  size_t tasks = 0;
  if (info.kind == "vtab") {
    for (const VtabScore& s : VtabScores(cells)) {
      missing.insert(s.missing_groups.begin(), s.missing_groups.end());
      tasks = std::max(tasks, s.tasks);
    }
    if (!missing.empty())
      remarks.push_back(fmt::format("no score: nothing of the group{} {}",
                                    missing.size() > 1 ? "s" : "", fmt::join(missing, ", ")));
    else if (tasks < VtabTasks().size())
      remarks.push_back(fmt::format(
          "the score is of {} of the 19 tasks: not to be compared with one of all", tasks));
  }
  for (const ScoreCell& c : cells)
    if (c.metric != "accuracy") metrics.insert(fmt::format("{}: {}", c.task, c.metric));
  if (!metrics.empty())
    remarks.push_back(fmt::format("not accuracy: {}", fmt::join(metrics, "; ")));
  for (const ChosenOptions& c : ChosenIn(info.kind, units))
    remarks.push_back(fmt::format("chosen: {}, {}{}: {}", c.task, ShortMethod(c.method),
                                  c.seeds.size() > 1 ? "" : fmt::format(", seed {}", c.seeds[0]),
                                  OptionsText(c.options)));
  if (const int64_t limit = info.config.value("test_limit", int64_t{0}); limit > 0)
    remarks.push_back(fmt::format("of the test examples only {} (--test-limit)", limit));
  if (const auto old = std::ranges::count_if(units, &UnitRow::superseded); old > 0)
    remarks.push_back(
        fmt::format("{} of earlier data, options or versions left out; the ledger has {}",
                    Counted(old, "unit"), old > 1 ? "them" : "it"));
  for (const UnitRow& u : units)
    if (u.state == UnitState::kFailed && !u.superseded)
      remarks.push_back(
          fmt::format("failed: {}, {}, seed {}: {}", u.task, u.method, u.seed, u.error));
  if (std::ranges::any_of(units, &UnitRow::chosen_on_test))
    remarks.push_back(std::string("*: ") + kChosenOnTest);
  return remarks;
}

std::string PublishedTable() {
  std::vector<std::string> titles{"published"};
  for (const VtabTask& task : VtabTasks()) titles.emplace_back(task.column);
  for (const char* title : {"score", "mean", "parameters"}) titles.emplace_back(title);
  TextTable table(AllButFirst(titles.size()));
  table.Add(titles);
  std::vector<std::string> notes;
  for (const PublishedRow& row : PublishedVtab()) {
    std::vector<std::string> line{row.method};
    double sum = 0;
    for (const double value : row.accuracy)
      line.push_back(fmt::format("{:.1f}", value)), sum += value;
    line.push_back(fmt::format("{:.1f}", row.average));
    line.push_back(fmt::format("{:.1f}", sum / static_cast<double>(row.accuracy.size())));
    line.push_back(fmt::format("{} M", row.parameters));
    table.Add(line);
    if (*row.note) notes.push_back(fmt::format("  {}: {}", row.method, row.note));
  }
  std::string text = table.Lines("  ") + fmt::format("\n  {}", kPublishedNote);
  for (const std::string& note : notes) text += "\n" + note;
  return text;
}

nlohmann::json PublishedJson() {
  nlohmann::json rows = nlohmann::json::array();
  for (const PublishedRow& row : PublishedVtab()) {
    nlohmann::json accuracy = nlohmann::json::object();
    for (size_t i = 0; i < row.accuracy.size(); ++i)
      accuracy[VtabTasks()[i].name] = row.accuracy[i] / 100;
    rows.push_back({{"method", row.method},
                    {"parameters_millions", row.parameters},
                    {"accuracy", accuracy},
                    {"score", row.average / 100},
                    {"note", row.note}});
  }
  return {{"note", kPublishedNote}, {"rows", rows}};
}

}  // namespace graft
