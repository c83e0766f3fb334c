#include "suites/scores.h"

#include <algorithm>
#include <map>
#include <set>

#include "suites/vtab_tasks.h"

namespace graft {
namespace {

nlohmann::json NumberOrNull(double value) {
  return std::isnan(value) ? nlohmann::json() : nlohmann::json(value);
}

// Whether an option makes rows of a table. One that was chosen does not.
bool MakesRows(const std::string& kind, const std::string& option) {
  return kind == "ablate" || option == "shots";
}

// For domain shift: the means over the seeds of what was measured on each domain.
nlohmann::json MeanTargets(const std::vector<const UnitRow*>& done) {
  std::vector<std::string> names;  // in the order in which they occur
  std::map<std::string, std::map<std::string, std::vector<double>>> values;  // by name and key
  std::map<std::string, nlohmann::json> n;
  for (const UnitRow* unit : done)
    for (const nlohmann::json& target : unit->metrics.value("targets", nlohmann::json::array())) {
      const std::string name = target.value("name", "");
      if (n.emplace(name, target.value("n", 0)).second) names.push_back(name);
      for (const char* key : {"accuracy", "drop", "relative_drop", "source_accuracy"})
        if (const auto it = target.find(key); it != target.end() && it->is_number())
          values[name][key].push_back(it->get<double>());
    }
  nlohmann::json targets = nlohmann::json::array();
  for (const std::string& name : names) {
    nlohmann::json target{{"name", name}, {"n", n[name]}};
    for (const auto& [key, of_seeds] : values[name]) {
      const auto [mean, spread] = MeanAndSpread(of_seeds);
      target[key] = mean, target[key + "_spread"] = NumberOrNull(spread);
    }
    targets.push_back(std::move(target));
  }
  return targets;
}

void FillCell(const std::vector<const UnitRow*>& units, ScoreCell* cell) {
  std::vector<const UnitRow*> done;
  std::vector<double> scores;
  double seconds = 0;
  for (const UnitRow* unit : units) {
    ++cell->units;
    cell->failed += unit->state == UnitState::kFailed;
    cell->chosen_on_test |= unit->chosen_on_test;
    if (unit->state != UnitState::kDone) continue;
    done.push_back(unit), scores.push_back(unit->score);
    cell->scores[unit->seed] = unit->score;
    cell->trainable_parameters = unit->trainable_parameters;
    cell->peak_bytes = std::max(cell->peak_bytes, unit->peak_bytes);
    seconds += unit->seconds;
  }
  std::tie(cell->mean, cell->spread) = MeanAndSpread(scores);
  if (!done.empty()) cell->seconds = seconds / static_cast<double>(done.size());
  cell->targets = MeanTargets(done);
}

}  // namespace

ShareOf TargetShare(const nlohmann::json& target, const std::string& key) {
  const auto number = [&](const std::string& name) {
    const auto it = target.find(name);
    return it != target.end() && it->is_number() ? it->get<double>() : NAN;
  };
  return {number(key), number(key + "_spread")};
}

std::pair<double, double> MeanAndSpread(const std::vector<double>& values) {
  const double n = static_cast<double>(values.size());
  double sum = 0, squares = 0;
  for (const double value : values) sum += value;
  for (const double value : values) squares += (value - sum / n) * (value - sum / n);
  return {values.empty() ? NAN : sum / n, values.size() < 2 ? NAN : std::sqrt(squares / (n - 1))};
}

std::string PlaceOf(const std::string& kind, const UnitRow& unit) {
  nlohmann::json options = nlohmann::json::object();
  for (const auto& [name, value] : unit.options.items())
    if (unit.phase != "final" || MakesRows(kind, name)) options[name] = value;
  return nlohmann::json{unit.task, unit.method, options, unit.seed, unit.phase}.dump();
}

std::vector<ChosenOptions> ChosenIn(const std::string& kind, const std::vector<UnitRow>& units) {
  std::vector<ChosenOptions> all;
  for (const UnitRow& unit : units) {
    if (unit.phase != "final" || unit.superseded) continue;
    nlohmann::json chosen = nlohmann::json::object();
    bool any = false;
    for (const auto& [name, value] : unit.options.items()) {
      any |= !MakesRows(kind, name);
      chosen[name] = value;  // with what makes the row, such as the shots
    }
    if (!any) continue;
    const auto at = std::ranges::find_if(all, [&](const ChosenOptions& c) {
      return c.task == unit.task && c.method == unit.method && c.options == chosen;
    });
    if (at == all.end())
      all.push_back({unit.task, unit.method, chosen, {unit.seed}});
    else
      at->seeds.push_back(unit.seed);
  }
  return all;
}

std::vector<ScoreCell> Cells(const std::string& kind, const std::vector<UnitRow>& units) {
  std::vector<ScoreCell> cells;
  std::vector<std::vector<const UnitRow*>> members;
  std::map<std::string, size_t> index;
  for (const UnitRow& unit : units) {
    if (unit.phase != "final" || unit.superseded) continue;
    ScoreCell cell;
    cell.task = unit.task, cell.group = unit.group, cell.method = unit.method;
    cell.metric = unit.metric;
    for (const auto& [name, value] : unit.options.items())
      (MakesRows(kind, name) ? cell.options : cell.chosen)[name] = value;
    const std::string key = nlohmann::json{unit.task, unit.method, cell.options}.dump();
    const auto [at, is_new] = index.emplace(key, cells.size());
    if (is_new) cells.push_back(std::move(cell)), members.emplace_back();
    members[at->second].push_back(&unit);
  }
  for (size_t i = 0; i < cells.size(); ++i) FillCell(members[i], &cells[i]);
  return cells;
}

namespace {

// The mean of the groups' means of these scores by task; NaN if a group is missing.
double GroupScore(const std::map<std::string, double>& by_task,
                  std::map<std::string, double>* groups) {
  double sum = 0;
  for (const char* group : kVtabGroups) {
    std::vector<double> values;
    for (const VtabTask& task : VtabTasks())
      if (const auto at = by_task.find(task.name);
          at != by_task.end() && group == std::string(task.group))
        values.push_back(at->second);
    const double mean = MeanAndSpread(values).first;
    if (groups) (*groups)[group] = mean;
    sum += mean;
  }
  return sum / static_cast<double>(kVtabGroups.size());
}

VtabScore ScoreOf(const std::string& method, const std::vector<const ScoreCell*>& cells) {
  VtabScore s;
  s.method = method;
  std::map<std::string, double> by_task;
  std::map<int64_t, std::map<std::string, double>> by_seed;
  std::vector<double> all;
  for (const ScoreCell* cell : cells) {
    s.chosen_on_test |= cell->chosen_on_test;
    if (cell->group == "extra" || std::isnan(cell->mean)) continue;
    by_task[cell->task] = cell->mean, all.push_back(cell->mean);
    for (const auto& [seed, score] : cell->scores) by_seed[seed][cell->task] = score;
  }
  s.tasks = by_task.size(), s.mean = MeanAndSpread(all).first;
  s.score = GroupScore(by_task, &s.groups);
  for (const auto& [group, mean] : s.groups)
    if (std::isnan(mean)) s.missing_groups.push_back(group);
  std::vector<double> scores;
  for (const auto& [seed, tasks] : by_seed)
    if (tasks.size() == by_task.size()) scores.push_back(GroupScore(tasks, nullptr));
  if (!std::isnan(s.score)) s.spread = MeanAndSpread(scores).second;
  return s;
}

}  // namespace

std::vector<VtabScore> VtabScores(const std::vector<ScoreCell>& cells) {
  std::vector<std::string> methods;
  for (const ScoreCell& cell : cells)
    if (std::ranges::find(methods, cell.method) == methods.end()) methods.push_back(cell.method);
  std::vector<VtabScore> scores;
  for (const std::string& method : methods) {
    std::vector<const ScoreCell*> mine;
    for (const ScoreCell& cell : cells)
      if (cell.method == method) mine.push_back(&cell);
    scores.push_back(ScoreOf(method, mine));
  }
  return scores;
}

nlohmann::json ToJson(const ScoreCell& c) {
  nlohmann::json scores = nlohmann::json::object();
  for (const auto& [seed, score] : c.scores) scores[std::to_string(seed)] = score;
  nlohmann::json json{{"task", c.task},
                      {"group", c.group},
                      {"method", c.method},
                      {"options", c.options},
                      {"chosen", c.chosen},
                      {"metric", c.metric},
                      {"mean", NumberOrNull(c.mean)},
                      {"spread", NumberOrNull(c.spread)},
                      {"scores", scores},
                      {"units", c.units},
                      {"done", c.scores.size()},
                      {"failed", c.failed},
                      {"trainable_parameters", c.trainable_parameters},
                      {"seconds", c.seconds},
                      {"peak_memory_bytes", c.peak_bytes},
                      {"chosen_on_test", c.chosen_on_test}};
  if (!c.targets.empty()) json["targets"] = c.targets;
  return json;
}

nlohmann::json ToJson(const VtabScore& s) {
  nlohmann::json groups = nlohmann::json::object();
  for (const auto& [group, mean] : s.groups) groups[group] = NumberOrNull(mean);
  return {{"method", s.method},
          {"score", NumberOrNull(s.score)},
          {"spread", NumberOrNull(s.spread)},
          {"groups", groups},
          {"missing_groups", s.missing_groups},
          {"mean", NumberOrNull(s.mean)},
          {"tasks", s.tasks},
          {"chosen_on_test", s.chosen_on_test}};
}

}  // namespace graft
