// Plans domain shift, and ablations of one method on one task.
#include <algorithm>
#include <map>

#include "data/splits.h"
#include "models/files/class_names.h"
#include "suites/list_store.h"
#include "suites/plan.h"
#include "train/dataset.h"

namespace graft {
namespace {

// The splits of a data set: by the protocol of VTAB-1k where it has those lists, else by usual
// names.
struct Splits {
  std::string all, part, val, test;  // all: to train on before the test; part and val: to choose
};
Splits SplitsOf(const Dataset& data) {
  const std::vector<std::string> names = data.split_names();
  Splits s;
  s.part = data.DefaultTrainSplit(), s.val = data.DefaultValidationSplit();
  s.all = Contains(names, "train800val200") ? "train800val200" : s.part;
  s.test = data.DefaultEvalSplit();
  if (s.test.empty() && names.size() == 1) s.test = names[0];
  return s;
}

std::map<std::string, std::vector<int>> ReadMasks(const SuiteRequest& r,
                                                  const std::vector<std::string>& domains) {
  std::map<std::string, std::vector<int>> masks;
  for (const std::string& word : r.masks) {
    const size_t equals = word.find('=');
    if (equals == word.npos || equals == 0)
      FailUsage("--mask '{}': expected NAME=FILE, NAME being a directory of --test", word);
    const std::string name = word.substr(0, equals);
    if (!Contains(domains, name))
      FailUsage("--mask '{}': no such domain in --test{}", word, DidYouMean(name, domains));
    if (!masks.emplace(name, ReadClassMask(word.substr(equals + 1))).second)
      FailUsage("--mask: '{}' has two", name);
  }
  return masks;
}

// Checks that a domain has the classes of the source, or as many as its mask names of them.
void CheckDomain(const std::string& directory, Dataset data, const Dataset& source,
                 const std::vector<int>& mask) {
  if (data.texts() != source.texts())
    Fail("{} holds {}, {} {}", directory, data.texts() ? "texts" : "images", source.directory(),
         source.texts() ? "texts" : "images");
  if (!mask.empty()) {
    if (data.num_classes() != std::ssize(mask))
      Fail("{}: has {} classes, its class mask {}", directory, data.num_classes(), mask.size());
    for (const int c : mask)
      if (c >= source.num_classes())
        Fail("{}: its class mask has class {}, but {} has {} classes", directory, c,
             source.directory(), source.num_classes());
    return;
  }
  if (data.num_classes() != source.num_classes())
    Fail("{}: has {} classes, {} has {}; hint: --mask says which of them a domain has", directory,
         data.num_classes(), source.directory(), source.num_classes());
  const std::vector<std::string> own = data.labels();
  data.NumberClassesAs(source.labels(), source.directory());
  const auto match = MatchClasses(own, source.labels());
  if (!match->by_name && data.names_classes() && source.names_classes())
    Fail(
        "{}: names its classes '{}' and the like, {} '{}', of which one only counts; hint: the "
        "same names in both, or --mask",
        directory, own[0], source.directory(), source.labels()[0]);
}

std::vector<Measurement> Domains(const SuiteRequest& r, const Dataset& source) {
  std::vector<std::string> names;
  for (const std::string& directory : r.test) {
    names.push_back(BaseName(directory));
    if (std::ranges::count(names, names.back()) > 1)
      FailUsage("--test: two directories are called '{}'", names.back());
  }
  const auto masks = ReadMasks(r, names);
  std::vector<Measurement> domains;
  for (size_t i = 0; i < names.size(); ++i) {
    const Dataset data(r.test[i], {r.config.columns, "", r.config.skip_bad});
    const Splits splits = SplitsOf(data);
    if (splits.test.empty())
      Fail("{}: no test split; it has {}", r.test[i], fmt::join(data.split_names(), ", "));
    Measurement m{.name = names[i], .data = r.test[i], .split = splits.test, .limit = r.test_limit};
    if (const auto mask = masks.find(names[i]); mask != masks.end()) m.mask = mask->second;
    m.columns = r.config.columns;
    CheckDomain(r.test[i], data, source, m.mask);
    domains.push_back(std::move(m));
  }
  return domains;
}

// Holds out a part of the training split of a data set that has no validation split.
TaskData::Side HeldOut(const SuiteRequest& r, const std::string& directory, const Splits& splits) {
  constexpr double kShare = kDefaultHoldout;
  const auto seed = static_cast<uint64_t>(r.config.seed);
  ListStore store(r.lists);
  const std::string name = BaseName(directory) + "-choice";
  std::string made;
  if (HoldsTexts(directory)) {
    TextDataset data(directory, ParseTextColumns(r.config.columns), r.config.skip_bad);
    data.HoldOut(splits.part, kShare, seed);
    TextSplit train = data.Load(splits.part), val = data.Load(kHoldout);
    train.name = "train", val.name = "val";
    made = store.Texts(name, data.class_names(), {train, val});
  } else {
    ImageDataset data(directory);
    data.HoldOut(splits.part, kShare, seed);
    Split train = data.Load(splits.part), val = data.Load(kHoldout);
    train.name = "train", val.name = "val";
    made = store.Images(name, data.class_names(), data.num_classes(), {train, val});
  }
  const Measurement val{.name = "val", .data = made, .split = "val"};
  return {made, "", "train", {val}, fmt::format("{} > a fifth of it", splits.part)};
}

TaskData::Side ChoiceSide(const SuiteRequest& r, const std::string& directory,
                          const Splits& splits) {
  if (splits.val.empty() || splits.val == splits.test) return HeldOut(r, directory, splits);
  const Measurement val{
      .name = splits.val, .data = directory, .split = splits.val, .columns = r.config.columns};
  return {directory,
          r.config.columns,
          splits.part,
          {val},
          fmt::format("{} > {}", splits.part, splits.val)};
}

nlohmann::json TaskJson(const std::string& directory, const std::string& group, int64_t classes) {
  return {{"name", BaseName(directory)},
          {"group", group},
          {"column", BaseName(directory)},
          {"classes", classes},
          {"directory", directory}};
}

}  // namespace

SuitePlan PlanShift(const SuiteRequest& r) {
  if (r.test.empty()) FailUsage("bench shift: needs --test, directories of other domains");
  SuitePlan plan = StartPlan(
      r,
      "domain shift: trained on one domain, tested once after the last epoch on its own test split "
      "and on those of the others; drop = accuracy at home - accuracy there, relative drop = drop "
      "/ accuracy at home; with a class mask both are among its classes; options are chosen at "
      "home");
  const std::string& directory = r.config.data;
  const Dataset source(directory, {r.config.columns, "", r.config.skip_bad});
  const Splits splits = SplitsOf(source);
  if (splits.all.empty() || splits.test.empty() || splits.test == splits.all)
    Fail("{}: expected a split to train on and one to test on; it has {}", directory,
         fmt::join(source.split_names(), ", "));
  TaskData task;
  task.name = BaseName(directory);
  Measurement home{.name = task.name,
                   .data = directory,
                   .split = splits.test,
                   .limit = r.test_limit,
                   .columns = r.config.columns};
  std::vector<Measurement> measured{home};
  plan.info.tasks.push_back(TaskJson(directory, "source", source.num_classes()));
  for (Measurement& m : Domains(r, source)) {
    plan.info.tasks.push_back(
        TaskJson(m.data, "target", m.mask.empty() ? source.num_classes() : std::ssize(m.mask)));
    measured.push_back(std::move(m));
  }
  task.final_side = {directory, r.config.columns, splits.all, measured,
                     fmt::format("{} > {}", splits.all, splits.test)};
  if (!r.select.empty() && !r.select_on_test) task.choice_side = ChoiceSide(r, directory, splits);
  AddTask(r, ParseGrid(r.select, "--select"), std::vector<TaskData>(r.seeds, task), &plan);
  FinishPlan(r, &plan);
  return plan;
}

SuitePlan PlanAblation(const SuiteRequest& r) {
  if (r.over.empty()) FailUsage("ablate: needs --over, e.g. \"act=none|relu\"");
  SuitePlan plan = StartPlan(
      r,
      "ablation: one method on one task with every combination of options; measured once after the "
      "last epoch on the validation split, or on the split that is named");
  const std::string all = fmt::format("{}", fmt::join(r.over, ","));
  const std::vector<GridAxis> grid = ParseGrid(all, "--over");
  CheckAxes(grid, plan.info.methods, "--over");
  const std::string& directory = r.config.data;
  const Dataset data(directory, {r.config.columns, "", r.config.skip_bad});
  const Splits splits = SplitsOf(data);
  if (splits.part.empty())
    Fail("{}: no split to train on; it has {}", directory, fmt::join(data.split_names(), ", "));
  TaskData task;
  task.name = BaseName(directory);
  task.metric = data.texts() ? TextMetric(task.name) : "accuracy";
  if (r.split.empty()) {
    task.final_side = ChoiceSide(r, directory, splits);
  } else {
    data.CheckSplit(r.split);
    const bool test = PurposeOf(r.split) == SplitPurpose::kTest;
    const std::string& from = test ? splits.all : splits.part;
    if (r.split == from) FailUsage("--split {}: is what is trained on", r.split);
    const Measurement m{.name = r.split,
                        .data = directory,
                        .split = r.split,
                        .limit = r.test_limit,
                        .columns = r.config.columns};
    task.final_side = {
        directory, r.config.columns, from, {m}, fmt::format("{} > {}", from, r.split)};
  }
  plan.info.tasks.push_back(TaskJson(directory, "", data.num_classes()));
  for (const Choice& choice : Combinations(grid)) AddVariant(r, task, choice, &plan);
  FinishPlan(r, &plan);
  return plan;
}

}  // namespace graft
