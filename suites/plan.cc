#include "suites/plan.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <set>

#include "adapters/base_hash.h"
#include "adapters/base_model.h"
#include "adapters/method_graph.h"
#include "models/text/tokenizer_identity.h"
#include "runtime/io/listing.h"
#include "runtime/version.h"
#include "train/complete_config.h"
#include "train/complete_method.h"
#include "train/dataset.h"
#include "train/run_config_json.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

// The options that all units share: a suite in which they change midway compares nothing.
nlohmann::json SharedOptions(const SuiteRequest& r) {
  nlohmann::json json = ToJson(r.config);
  for (const char* field :
       {"model", "data", "method", "seed", "train_split", "val_split", "holdout", "labels",
        "base_sha256", "examples_sha256", "trace", "save_every", "schedule_epochs", "scale_targets",
        "allow_overlap", "read_columns", "texts", "tokenizer_sha256", "contents_sha256"})
    json.erase(field);
  if (r.config.batch_size == kBatchByKind) json["batch_size"] = "by kind";
  if (r.config.lr == 0) json["lr"] = "by method";
  json["test_limit"] = r.test_limit;
  if (!r.split.empty()) json["split"] = r.split;  // that an ablation measures
  json["select"] = r.select, json["select_on_test"] = r.select_on_test;
  return json;
}

RunConfig ConfigOf(const SuiteRequest& r, const TaskData::Side& side, const std::string& method,
                   int64_t seed) {
  RunConfig c = r.config;
  c.method = method, c.seed = seed;
  c.data = side.data, c.columns = side.columns, c.train_split = side.split;
  c.val_split = "none", c.holdout = 0;  // what is measured is measured once, behind the last epoch
  return c;
}

Unit MakeUnit(const SuiteRequest& r, const TaskData& task, const TaskData::Side& side,
              const std::string& method, const Choice& choice, int64_t seed) {
  Unit unit;
  unit.config = ConfigOf(r, side, method, seed);
  const char* flag = r.kind == "ablate" ? "--over" : "--select";
  Apply(choice, flag, &unit.config);
  unit.measure = side.measure;
  UnitRow& row = unit.row;
  row.task = task.name, row.group = task.group, row.metric = task.metric, row.method = method;
  row.seed = seed, row.protocol = side.protocol, row.options = task.options;
  row.options.update(OptionsJson(choice));
  return unit;
}

void CheckUnits(const SuiteRequest& r, const SuitePlan& plan) {
  if (plan.units.empty()) FailUsage("bench {}: there is nothing to do", r.kind);
  for (const Unit* unit : plan.All()) {
    RunConfig checked = unit->config;
    if (checked.batch_size == kBatchByKind) checked.batch_size = kImageBatch;
    CheckRunConfig(checked);
  }
}

// Finds methods that do not fit before the first one trains, and not behind the others.
void CheckMethods(SuitePlan* plan) {
  std::map<std::string, const Unit*> methods;
  for (const Unit* unit : plan->All()) methods.emplace(unit->config.method, unit);
  const Unit& first = plan->units.front();
  std::vector<std::string> notes;
  const RunConfig complete = CompleteRunConfig(first.config, &notes);
  for (const std::string& note : notes) plan->notes.push_back(first.row.task + ": " + note);
  plan->info.preprocess = complete.preprocess;
  const LoadedModel model = OpenAdapted(complete);
  for (const auto& [text, unit] : methods) {
    const Method method = ParseMethod(text);
    if (unit->config.lr != 0 && SearchedTerm(method))
      FailUsage("--lr: method '{}' is found without gradients", SearchedTerm(method)->name);
    // Terms that begin with a run look it up when they train.
    if (std::ranges::any_of(
            method, [](const MethodTerm& t) { return t.name == "forget" || t.name == "prompt"; }))
      continue;
    ParamStore params = model.params;
    MethodGraph(model.config, {.loss = true}, method, params,
                static_cast<uint64_t>(unit->config.seed));
  }
}

}  // namespace

std::string BaseName(const std::string& directory) {
  fs::path path = fs::absolute(directory).lexically_normal();
  if (path.filename().empty()) path = path.parent_path();
  return path.filename().string();
}

std::vector<std::string> FoldersIn(const std::string& directory) {
  std::vector<std::string> folders;
  for (const DirectoryEntry& entry : ListDirectory(directory))
    if (entry.is_directory() && !entry.name.starts_with('.')) folders.push_back(entry.name);
  return folders;
}

bool Wanted(const SuiteRequest& r, const std::string& task) {
  return r.tasks.empty() || std::ranges::find(r.tasks, task) != r.tasks.end();
}

void CheckWanted(const SuiteRequest& r, const std::vector<std::string>& found) {
  for (const std::string& task : r.tasks)
    if (std::ranges::find(found, task) == found.end())
      Fail("--tasks: {} has no task '{}'{}; it has {}", r.config.data, task,
           Nearest(task, found).empty() ? ""
                                        : fmt::format(", did you mean '{}'?", Nearest(task, found)),
           found.empty() ? "none" : fmt::format("{}", fmt::join(found, ", ")));
}

SuitePlan StartPlan(const SuiteRequest& r, const std::string& protocol) {
  SuitePlan plan;
  SuiteInfo& info = plan.info;
  info.kind = r.kind, info.protocol = protocol, info.command = r.command;
  if (r.select_on_test)
    info.protocol += "; but here options are chosen on the test examples (--select-on-test)";
  if (r.test_limit > 0)
    info.protocol += fmt::format("; of the test examples only {} (--test-limit)", r.test_limit);
  info.version = kVersion, info.data = r.config.data;
  info.model = r.config.model.starts_with("init:")
                   ? r.config.model
                   : fs::absolute(r.config.model).lexically_normal().string();
  info.base_sha256 = BaseHash(r.config.model);
  info.config = SharedOptions(r);
  if (r.methods.empty()) FailUsage("bench {}: needs --methods, e.g. linear \"lora(r=8)\"", r.kind);
  for (const std::string& text : r.methods) {
    const std::string method = ToString(ParseMethod(text));
    if (std::ranges::find(info.methods, method) != info.methods.end())
      FailUsage("--methods: '{}' is there twice", method);
    info.methods.push_back(method);
  }
  CheckAxes(ParseGrid(r.select, "--select"), info.methods, "--select");
  return plan;
}

void AddTask(const SuiteRequest& r, const std::vector<GridAxis>& grid,
             const std::vector<TaskData>& by_seed, SuitePlan* plan) {
  const TaskData& first = by_seed.front();
  for (const std::string& method : plan->info.methods) {
    const std::vector<GridAxis> axes = AxesFor(grid, ParseMethod(method));
    const auto finals = [&](const Choice& choice, bool on_test) {
      std::vector<Unit> units;
      for (size_t i = 0; i < by_seed.size(); ++i) {
        units.push_back(MakeUnit(r, by_seed[i], by_seed[i].final_side, method, choice,
                                 r.config.seed + static_cast<int64_t>(i)));
        units.back().row.chosen_on_test = on_test;
      }
      return units;
    };
    if (axes.empty()) {
      for (Unit& unit : finals({}, false)) plan->units.push_back(std::move(unit));
      continue;
    }
    if (!r.select_on_test && !first.choice_side)
      Fail("{}: --select: {}", first.name, first.why_no_choice);
    const TaskData::Side& side = r.select_on_test ? first.final_side : *first.choice_side;
    Selection selection;
    for (const Choice& choice : Combinations(axes)) {
      Unit unit = MakeUnit(r, first, side, method, choice, r.config.seed);
      unit.row.phase = "choice", unit.row.chosen_on_test = r.select_on_test;
      plan->units.push_back(std::move(unit));
      selection.candidates.push_back({"", finals(choice, r.select_on_test)});
    }
    plan->selections.push_back(std::move(selection));
  }
}

void AddVariant(const SuiteRequest& r, const TaskData& task, const Choice& choice,
                SuitePlan* plan) {
  for (int64_t i = 0; i < r.seeds; ++i)
    plan->units.push_back(
        MakeUnit(r, task, task.final_side, plan->info.methods.at(0), choice, r.config.seed + i));
}

namespace {

// Makes hashes of the data once for each directory and split.
class Hashes {
 public:
  const std::string& Of(const std::string& data, const std::string& split,
                        const std::string& columns, bool skip_bad) {
    std::string& hash = known_[{data, split, columns}];
    if (hash.empty()) hash = HashOfData(data, split, columns, skip_bad);
    return hash;
  }
  // Of the tokenizer, if the data are texts.
  const std::string& OfTokenizer(const RunConfig& c) {
    const auto [at, fresh] = tokenizers_.try_emplace({c.data, c.columns, c.model, c.tokenizer});
    if (fresh && Dataset(c.data, {c.columns, "", c.skip_bad}).texts())
      at->second = TokenizerIdentity(OpenTokenizer(c).spec());
    return at->second;
  }
  const std::string& OfRuns(const std::string& method) {
    const auto [at, fresh] = runs_.try_emplace(method);
    if (fresh) at->second = HashOfMethodRuns(ParseMethod(method));
    return at->second;
  }

 private:
  std::map<std::array<std::string, 3>, std::string> known_;
  std::map<std::array<std::string, 4>, std::string> tokenizers_;
  std::map<std::string, std::string> runs_;
};

void Identify(const SuiteRequest& r, const std::string& base, Hashes* hashes, Unit* unit) {
  const RunConfig& c = unit->config;
  unit->train_sha256 = hashes->Of(c.data, c.train_split, c.columns, c.skip_bad);
  for (Measurement& m : unit->measure)
    m.sha256 = hashes->Of(m.data, m.split, m.columns, c.skip_bad);
  unit->tokenizer_sha256 = hashes->OfTokenizer(c);
  unit->begins_with = hashes->OfRuns(c.method);
  unit->row.hash = HashOf(IdentityOf(*unit, r.kind, base));
}

// Notes test examples that are trained on. They may be meant, so that the suite goes on.
void NoteOverlaps(SuitePlan* plan) {
  std::set<std::array<std::string, 4>> seen;
  for (const Unit* unit : plan->All()) {
    const RunConfig& c = unit->config;
    for (const Measurement& m : unit->measure) {
      if (!seen.insert({c.data, c.train_split, m.data, m.split}).second) continue;
      // Lists that were drawn or converted lie elsewhere than the examples to test on.
      const Dataset trained(c.data, {c.columns, "", c.skip_bad});
      const Dataset held(m.data, {m.columns, "", c.skip_bad});
      const std::string text = held.OverlapText(m.split, c.train_split, c.limit, &trained);
      if (!text.empty()) plan->notes.push_back(fmt::format("{}: {}", unit->row.task, text));
    }
  }
}

}  // namespace

void FinishPlan(const SuiteRequest& r, SuitePlan* plan) {
  CheckUnits(r, *plan);
  CheckMethods(plan);
  NoteOverlaps(plan);
  Hashes hashes;
  size_t choices = 0;
  for (Unit& unit : plan->units) Identify(r, plan->info.base_sha256, &hashes, &unit);
  std::vector<const Unit*> chosen_from;
  for (const Unit& unit : plan->units)
    if (unit.row.phase == "choice") chosen_from.push_back(&unit);
  for (Selection& selection : plan->selections)
    for (Selection::Candidate& candidate : selection.candidates) {
      candidate.choice = chosen_from.at(choices++)->row.hash;
      for (Unit& unit : candidate.finals) Identify(r, plan->info.base_sha256, &hashes, &unit);
    }
}

namespace {

SuitePlan PlanKind(const SuiteRequest& request) {
  if (request.kind == "vtab") return PlanVtab(request);
  if (request.kind == "few-shot") return PlanFewShot(request);
  if (request.kind == "text") return PlanText(request);
  if (request.kind == "shift") return PlanShift(request);
  GRAFT_CHECK(request.kind == "ablate", "{}", request.kind);
  return PlanAblation(request);
}

}  // namespace

SuitePlan PlanSuite(const SuiteRequest& request) {
  try {
    return PlanKind(request);
  } catch (const Error& e) {
    // Data whose labels are numbers, or several, are read by the option of another command.
    if (std::string_view(e.what()).find("--task ") == std::string_view::npos) throw;
    throw Error(fmt::format("{}, as an option of graft train; a suite measures one class of each "
                            "example; hint: --tasks names those that it can",
                            e.what()),
                e.kind);
  }
}

}  // namespace graft
