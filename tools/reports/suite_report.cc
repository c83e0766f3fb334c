#include "tools/reports/suite_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "data/image_folders.h"
#include "runtime/error.h"
#include "runtime/io/json.h"
#include "suites/unit.h"
#include "suites/vtab_tasks.h"
#include "tools/lib/report.h"
#include "tools/lib/run_table.h"
#include "tools/lib/suite_tables.h"
#include "tools/reports/ablation_report.h"
#include "tools/reports/charts.h"
#include "tools/reports/quality_report.h"
#include "tools/reports/suite_matrix.h"

namespace graft {
namespace {

HtmlTable MainTable(const SuiteData& suite, const SuiteMatrix& m) {
  HtmlTable table;
  table.titles = {suite.info.kind == "ablate" ? "variant" : "method"};
  for (const TableColumn& column : m.columns) {
    const auto cell = std::ranges::find(m.cells, column.task, &ScoreCell::task);
    table.titles.push_back(column.title +
                           (cell->metric == "accuracy" ? "" : fmt::format(" ({})", cell->metric)));
  }
  if (!m.scores.empty())
    for (const char* group : kVtabGroups) table.titles.emplace_back(group);
  if (!m.scores.empty()) table.titles.emplace_back("score");
  for (const char* title : {"mean", "mean rank", "trained numbers"})
    table.titles.emplace_back(title);
  table.numbers.assign(table.titles.size(), true);
  table.numbers[0] = false;
  for (size_t row = 0; row < m.rows.size(); ++row) {
    std::vector<HtmlCell> line{{RowName(m.rows[row])}};
    for (size_t column = 0; column < m.columns.size(); ++column) {
      const ScoreCell* cell = m.At(row, column);
      line.push_back(cell ? ShareCell(cell->mean, cell->spread, cell->chosen_on_test)
                          : HtmlCell{"-"});
      if (cell && !cell->scores.empty() && cell->scores.size() < cell->units)
        line.back().text += fmt::format(" ({} of {})", cell->scores.size(), cell->units);
      if (cell && cell->scores.empty() && cell->failed > 0)
        line.back() = {"failed", NAN, false, true};
      double best = -1;
      for (size_t other = 0; other < m.rows.size(); ++other)
        if (const double mean = m.Mean(other, column); mean > best) best = mean;
      line.back().best = m.rows.size() > 1 && line.back().value == best;
    }
    const bool marked = m.Marked(row);
    if (const VtabScore* score = ScoreOf(m, row)) {
      for (const char* group : kVtabGroups)
        line.push_back(ShareCell(score->groups.at(group), NAN, marked));
      line.push_back(ShareCell(score->score, score->spread, marked));
    }
    line.push_back(ShareCell(m.means[row], NAN, marked));
    line.push_back(
        NumberCell(m.ranks[row], fmt::format("{:.2f}{}", m.ranks[row], marked ? "*" : "")));
    const int64_t parameters = Parameters(m, row);
    line.push_back(parameters ? CountCell(parameters) : HtmlCell{"-"});
    table.rows.push_back(std::move(line));
  }
  return table;
}

// Draws accuracy over the number of parameters that train, with a point for each row of the table.
nlohmann::json ParametersChart(const SuiteMatrix& m) {
  nlohmann::json sets = nlohmann::json::array();
  for (size_t row = 0; row < m.rows.size(); ++row) {
    const int64_t parameters = Parameters(m, row);
    if (parameters == 0 || std::isnan(Judged(m, row))) continue;
    sets.push_back(
        {{"label", RowName(m.rows[row])},
         {"pointRadius", 6},
         {"data",
          {PointOf(static_cast<double>(parameters), Judged(m, row), SpreadOfJudged(m, row))}}});
  }
  return ScatterChart("accuracy over numbers that train", sets, Axis("trained numbers", true),
                      Axis("%"));
}

nlohmann::json TasksChart(const SuiteMatrix& m) {
  nlohmann::json labels = nlohmann::json::array(), sets = nlohmann::json::array();
  for (const TableColumn& column : m.columns) labels.push_back(column.title);
  for (size_t row = 0; row < m.rows.size(); ++row) {
    nlohmann::json data = nlohmann::json::array();
    for (size_t column = 0; column < m.columns.size(); ++column)
      if (const ScoreCell* cell = m.At(row, column); cell && !std::isnan(cell->mean))
        data.push_back(PointOf(m.columns[column].title, cell->mean, cell->spread));
    sets.push_back({{"label", RowName(m.rows[row])}, {"data", data}});
  }
  return LabelledChart("bar", "tasks", labels, sets, nlohmann::json::object(), Axis("%"));
}

// Draws accuracy over the number of examples of a class, with a chart for each task.
std::vector<nlohmann::json> ShotsCharts(const SuiteMatrix& m) {
  std::vector<nlohmann::json> charts;
  for (const TableColumn& column : m.columns) {
    std::map<std::string, nlohmann::json> lines;
    for (const ScoreCell& cell : m.cells)
      if (cell.task == column.task && cell.options.contains("shots") && !std::isnan(cell.mean))
        if (const nlohmann::json& shots = cell.options["shots"]; shots.is_number())
          lines[cell.method].push_back(PointOf(shots, cell.mean, cell.spread));
    nlohmann::json sets = nlohmann::json::array();
    for (auto& [method, points] : lines)
      sets.push_back({{"label", method}, {"data", points}, {"showLine", true}});
    if (!sets.empty())
      charts.push_back(
          ScatterChart(column.title, sets, Axis("examples of a class", true), Axis("%")));
  }
  return charts;
}

HtmlTable ShiftTable(const SuiteMatrix& m) {
  HtmlTable table{{"method", "domain", "accuracy", "at home", "drop", "relative drop"},
                  {false, false, true, true, true, true},
                  {}};
  for (const ScoreCell& cell : m.cells) {
    table.rows.push_back({{cell.method},
                          {cell.task},
                          ShareCell(cell.mean, cell.spread, cell.chosen_on_test),
                          {"-"},
                          {"-"},
                          {"-"}});
    for (const nlohmann::json& target : cell.targets) {
      const auto share = [&](const char* key) {
        const ShareOf s = TargetShare(target, key);
        return ShareCell(s.mean, s.spread, cell.chosen_on_test);
      };
      table.rows.push_back({{ShortMethod(cell.method)},
                            {target["name"]},
                            share("accuracy"),
                            target.contains("source_accuracy")  // among the classes of a mask
                                ? share("source_accuracy")
                                : ShareCell(cell.mean, cell.spread, cell.chosen_on_test),
                            share("drop"),
                            share("relative_drop")});
    }
  }
  return table;
}

HtmlTable ChosenTable(const std::vector<ChosenOptions>& chosen) {
  HtmlTable table{{"task", "method", "options", "seeds"}, {false, false, false, false}, {}};
  for (const ChosenOptions& c : chosen)
    table.rows.push_back({{c.task},
                          {c.method},
                          {OptionsText(c.options)},
                          {fmt::format("{}", fmt::join(c.seeds, ", "))}});
  return table;
}

HtmlTable UnitsTable(const std::vector<UnitRow>& units) {
  HtmlTable table{{"task", "method", "options", "seed", "for", "state", "metric", "score", "of",
                   "loss", "trained numbers", "seconds", "peak MiB", "run", "machine", "error"},
                  {false, false, false, true, false, false, false, true, true, true, true, true,
                   true, false, false, false},
                  {}};
  for (const UnitRow& u : units) {
    const bool done = u.state == UnitState::kDone;
    const double loss = done ? u.metrics.value("loss", double{NAN}) : NAN;
    const double n = done ? u.metrics.value("n", double{NAN}) : NAN;
    const auto number = [&](double value, const std::string& text) {
      return done ? NumberCell(value, text) : HtmlCell{"-"};
    };
    table.rows.push_back(
        {{u.task},
         {u.method},
         {OptionsText(u.options)},
         NumberCell(static_cast<double>(u.seed), fmt::format("{}", u.seed)),
         {u.phase},
         {u.superseded ? "superseded" : ToString(u.state), NAN, false,
          u.state == UnitState::kFailed && !u.superseded},
         {u.metric},
         ShareCell(u.score, NAN, u.chosen_on_test),
         number(n, fmt::format("{:.0f}", n)),
         number(loss, fmt::format("{:.4f}", loss)),
         number(static_cast<double>(u.trainable_parameters), Grouped(u.trainable_parameters)),
         number(u.seconds, fmt::format("{:.1f}", u.seconds)),
         number(static_cast<double>(u.peak_bytes), fmt::format("{}", u.peak_bytes >> 20)),
         {u.run},
         {u.machine},
         {u.error}});
  }
  return table;
}

// Lists units that are to be run, that run, or that failed.
void AddNotDone(const std::vector<UnitRow>& units, Page* page) {
  HtmlTable table{{"task", "method", "options", "seed", "for", "state", "error"},
                  {false, false, false, true, false, false, false}};
  for (const UnitRow& u : units) {
    if (u.state == UnitState::kDone || u.superseded) continue;
    HtmlCell error{u.error};
    error.wraps = true;
    table.rows.push_back({{u.task},
                          {u.method},
                          {OptionsText(u.options)},
                          NumberCell(static_cast<double>(u.seed), fmt::format("{}", u.seed)),
                          {u.phase},
                          {ToString(u.state), NAN, false, u.state == UnitState::kFailed},
                          error});
  }
  if (table.rows.empty()) return;
  page->Heading("Units that are not done", 3);
  page->Table(table);
}

void AddMissing(const SuiteData& suite, Page* page) {
  size_t all = 0, done = 0, failed = 0;
  for (const UnitRow& u : suite.units)
    if (!u.superseded)
      ++all, done += u.state == UnitState::kDone, failed += u.state == UnitState::kFailed;
  std::string text = fmt::format("{} of {} units are done", done, all);
  if (failed) text += fmt::format(", {} failed", failed);
  if (done + failed < all)
    text += fmt::format("; {} to be done: this suite is not finished", all - done - failed);
  page->Text(text + ".", done < all ? "bad" : "");
  std::map<std::string, std::vector<std::string>> missing;  // by the reason
  for (const nlohmann::json& task : suite.info.tasks)
    if (task.value("directory", nlohmann::json()).is_null())
      missing[task.value("why", std::string("no directory of this name"))].push_back(task["name"]);
  for (const auto& [why, names] : missing)
    page->Text(fmt::format("Tasks that are not there ({}): {}.", why, fmt::join(names, ", ")),
               "soft");
  for (const std::string& remark : SuiteRemarks(suite.info, suite.units))
    if (!remark.starts_with("failed: ") && !remark.starts_with("chosen: "))  // tables of their own
      page->Text(remark + ".", remark.starts_with('*') ? "bad" : "soft");
}

// The unit of a task whose score is the best, with the examples that it was most wrong about; null
// where no unit has them.
const UnitRow* BestOf(const std::vector<UnitRow>& units, const std::string& task) {
  const UnitRow* best = nullptr;
  for (const UnitRow& u : units)
    if (u.task == task && u.phase == "final" && u.state == UnitState::kDone && !u.superseded &&
        !u.metrics.value("worst", nlohmann::json::array()).empty() &&
        (!best || u.score > best->score))
      best = &u;
  return best;
}

void AddWorst(const SuiteData& suite, const SuiteMatrix& m, Page* page) {
  bool begun = false;
  for (const TableColumn& column : m.columns) {
    const UnitRow* unit = BestOf(suite.units, column.task);
    if (!unit) continue;
    if (!begun) page->Heading("The worst examples of each task's best unit", 3);
    begun = true;
    const std::string options = OptionsText(unit->options);  // of an ablation the variant
    page->Text(fmt::format("{}: {}{}, seed {}", column.title, ShortMethod(unit->method),
                           options.empty() ? "" : ", " + options, unit->seed));
    HtmlTable texts{{"text", "true", "predicted", "loss"}, {false, false, false, true}};
    std::vector<HtmlPicture> pictures;
    for (const nlohmann::json& w : unit->metrics["worst"]) {
      const std::string name = w.at("example"),
                        loss = fmt::format("{:.4g}", w.at("loss").get<double>());
      const auto said = [&](const char* key, const char* share) {
        return fmt::format("{} ({})", w.at(key).get<std::string>(),
                           Percent(w.at(share).get<double>()));
      };
      const std::string is = said("label", "label_probability"),
                        as = said("predicted", "probability");
      if (HasImageExtension(name))
        pictures.push_back({Thumbnail(name, false),
                            {"true " + is, "said " + as, "loss " + loss,
                             name.substr(name.find_last_of('/') + 1)}});
      else
        texts.rows.push_back({TextCell(name), {is}, {as}, NumberCell(w.at("loss"), loss)});
    }
    if (!pictures.empty()) page->Gallery(pictures);
    if (!texts.rows.empty()) page->Table(texts);
  }
}

std::string Latex(const std::string& text) {
  const std::map<char, const char*> other{
      {'\\', "\\textbackslash{}"}, {'|', "\\textbar{}"},        {'<', "\\textless{}"},
      {'>', "\\textgreater{}"},    {'~', "\\textasciitilde{}"}, {'^', "\\textasciicircum{}"}};
  std::string out;
  for (const char c : text) {
    if (const auto at = other.find(c); at != other.end()) {
      out += at->second;
      continue;
    }
    if (std::string_view("&%$#_{}").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

}  // namespace

SuiteData ReadSuite(const std::string& directory) {
  const Ledger ledger = Ledger::Read(directory);
  const std::optional<SuiteInfo> info = ledger.Suite();
  if (!info)
    Fail("{}: its suite was interrupted before it had units; run its command again", directory);
  return {directory, *info, ledger.Units()};
}

void AddSuite(const SuiteData& suite, Page* page) {
  const SuiteMatrix m = MatrixOf(suite.info, suite.units);
  const SuiteInfo& info = suite.info;
  page->Heading(fmt::format("{}: {}", info.kind, suite.directory));
  std::set<std::string> machines;
  for (const UnitRow& u : suite.units)
    if (!u.machine.empty()) machines.insert(u.machine);
  page->Facts({{"model", info.model},
               {"base, SHA-256", info.base_sha256},
               {"data", info.data},
               {"protocol", info.protocol},
               {"preprocessing", info.preprocess},
               {"command", info.command},
               {"graft", info.version},
               {"machines", fmt::format("{}", fmt::join(machines, "; "))}});
  AddMissing(suite, page);
  page->Heading("Results, in percent", 3);
  page->Table(MainTable(suite, m));
  if (m.ranked < m.counted)
    page->Text(fmt::format("Ranks are over the {} of {} tasks for which every row has a number.",
                           m.ranked, m.counted),
               "soft");
  if (info.kind == "shift") page->Table(ShiftTable(m));
  if (const auto chosen = ChosenIn(info.kind, suite.units);
      info.kind != "ablate" && !chosen.empty()) {
    page->Heading("What was chosen", 3);
    page->Table(ChosenTable(chosen));
  }
  if (info.kind == "ablate") {
    AddAxes(m, page);
  } else {
    page->BeginGrid();
    if (const nlohmann::json chart = ParametersChart(m); !chart.is_null()) page->Chart(chart);
    const std::vector<nlohmann::json> shots = ShotsCharts(m);
    for (const nlohmann::json& chart : shots) page->Chart(chart);
    if (const nlohmann::json chart = TasksChart(m); shots.empty() && !chart.is_null())
      page->Chart(chart);
    page->EndGrid();
  }
  AddWorst(suite, m, page);
  AddNotDone(suite.units, page);
  page->Heading("Units", 3);
  page->Table(UnitsTable(suite.units));
}

std::string UnitsCsv(const std::vector<SuiteData>& suites) {
  std::string text =
      "suite,kind,task,group,method,options,seed,phase,protocol,state,metric,score,loss,"
      "trainable_parameters,seconds,peak_bytes,chosen_on_test,run,error,n,domain,drop,"
      "relative_drop,superseded,source_accuracy\n";
  for (const SuiteData& suite : suites)
    for (const UnitRow& u : suite.units) {
      const bool done = u.state == UnitState::kDone;
      const auto number = [&](const nlohmann::json& value) {
        return done && !value.is_null() ? value.dump() : "";
      };
      const auto line = [&](const nlohmann::json& score, const nlohmann::json& of,
                            const std::string& domain) {
        const auto measured = [&](const char* key) { return number(of.value(key, Json())); };
        text += fmt::format(
            "{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}\n",
            CsvField(suite.directory), suite.info.kind, CsvField(u.task), u.group,
            CsvField(u.method), CsvField(OptionsText(u.options)), u.seed, u.phase,
            CsvField(u.protocol), ToString(u.state), u.metric, number(score), measured("loss"),
            number(u.trainable_parameters), number(u.seconds), number(u.peak_bytes),
            u.chosen_on_test ? "yes" : "no", CsvField(u.run), CsvField(u.error), measured("n"),
            CsvField(domain), measured("drop"), measured("relative_drop"),
            u.superseded ? "yes" : "no", measured("source_accuracy"));
      };
      line(u.score, u.metrics, "");
      if (done)
        for (const nlohmann::json& target : u.metrics.value("targets", nlohmann::json::array()))
          line(target.value("accuracy", Json()), target, target.value("name", ""));
    }
  return text;
}

std::string SuiteLatex(const SuiteData& suite) {
  const SuiteMatrix m = MatrixOf(suite.info, suite.units);
  const HtmlTable table = suite.info.kind == "shift" ? ShiftTable(m) : MainTable(suite, m);
  std::string text =
      fmt::format("% {}: {}\n\\begin{{tabular}}{{l{}}}\n\\toprule\n", suite.info.kind,
                  suite.directory, std::string(table.titles.size() - 1, 'r'));
  const auto line = [&](const auto& cells, const auto& text_of) {
    std::string row;
    for (const auto& cell : cells) row += (row.empty() ? "" : " & ") + text_of(cell);
    return row + " \\\\\n";
  };
  text += line(table.titles, [](const std::string& title) { return Latex(title); }) + "\\midrule\n";
  for (const std::vector<HtmlCell>& row : table.rows)
    text += line(row, [](const HtmlCell& cell) {
      std::string number = Latex(cell.text);
      if (const size_t at = number.find("±"); at != number.npos)
        number.replace(at, std::string("±").size(), "$\\pm$");
      return cell.best ? "\\textbf{" + number + "}" : number;
    });
  text += "\\bottomrule\n\\end{tabular}\n";
  const bool marked = std::ranges::any_of(m.cells, &ScoreCell::chosen_on_test);
  return text + (marked ? std::string("\\\\ *: ") + kChosenOnTest + "\n" : "");
}

}  // namespace graft
