// Plans VTAB-1k: 19 tasks of 1,000 training images.
#include <algorithm>
#include <filesystem>
#include <set>

#include "data/splits.h"
#include "suites/plan.h"
#include "suites/vtab_tasks.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLists[] = {"train800", "val200", "train800val200", "test"};

constexpr const char* kProtocol =
    "VTAB-1k: trained on train800val200, tested once on test after the last epoch; options are "
    "chosen on val200 after training on train800; images are resized straight to the model's size, "
    "bicubic, and normalised by ImageNet's mean and std as NOAH, FacT, RepAdapter and GLoRA do "
    "(SSF and the checkpoints themselves: mean = std = 0.5, --preprocess vtab,mean=0.5,std=0.5); "
    "the score is the mean of the means of the three groups";

bool HasList(const std::string& directory, const char* list) {
  std::error_code none;
  return fs::exists(fmt::format("{}/{}.txt", directory, list), none);
}

TaskData DataOf(const SuiteRequest& r, const std::string& directory, const VtabTask* task) {
  TaskData data;
  data.name = task ? task->name : BaseName(directory);
  data.group = task ? task->group : "extra";
  for (const char* list : kLists)
    if (!HasList(directory, list))
      Fail("{}: has no {}.txt; VTAB-1k's layout has train800, val200, train800val200 and test",
           directory, list);
  const Measurement test{.name = "test", .data = directory, .split = "test", .limit = r.test_limit};
  data.final_side = {directory, "", "train800val200", {test}, "train800val200 > test"};
  const Measurement val{.name = "val200", .data = directory, .split = "val200"};
  data.choice_side = {directory, "", "train800", {val}, "train800 > val200"};
  return data;
}

// The directories of the suite, in the order of the published tables, with others behind them.
std::vector<std::pair<std::string, const VtabTask*>> Directories(const SuiteRequest& r,
                                                                 SuitePlan* plan) {
  const std::string& root = r.config.data;
  std::vector<std::pair<std::string, const VtabTask*>> found;
  if (HasList(root, "train800val200")) return {{root, FindVtabTask(BaseName(root))}};
  std::set<const VtabTask*> seen;
  for (const std::string& folder : FoldersIn(root)) {
    const VtabTask* task = FindVtabTask(folder);
    const std::string path = root + "/" + folder;
    if (!task && !HasList(path, "train800val200")) {
      plan->notes.push_back(fmt::format("{}: left out, it holds no train800val200.txt", path));
      continue;
    }
    if (task && !seen.insert(task).second)
      Fail("{}: holds the task {} twice, the second is {}", root, task->name, folder);
    found.emplace_back(path, task);
  }
  std::ranges::stable_sort(found, {}, [](const auto& entry) {
    return entry.second ? entry.second - VtabTasks().data() : 100;
  });
  return found;
}

}  // namespace

SuitePlan PlanVtab(const SuiteRequest& r) {
  SuitePlan plan = StartPlan(r, kProtocol);
  const std::vector<GridAxis> grid = ParseGrid(r.select, "--select");
  const auto directories = Directories(r, &plan);
  if (directories.empty()) Fail("{}: holds no task of VTAB-1k's layout", r.config.data);
  std::vector<std::string> names, missing;
  std::set<const VtabTask*> there;
  for (const auto& [path, task] : directories) {
    names.push_back(task ? task->name : BaseName(path));
    there.insert(task);
  }
  for (const VtabTask& task : VtabTasks())
    if (!there.contains(&task)) missing.push_back(task.name);
  for (const std::string& wanted : r.tasks)
    if (Contains(missing, wanted))
      Fail("--tasks: '{}' is a task of VTAB-1k, but {} has no such directory", wanted,
           r.config.data);
  CheckWanted(r, names);
  if (!missing.empty())
    plan.notes.push_back(
        fmt::format("{} of 19 tasks are missing: {}", missing.size(), fmt::join(missing, ", ")));
  for (const VtabTask& task : VtabTasks()) {
    const auto at =
        std::ranges::find(directories, &task, [](const auto& entry) { return entry.second; });
    const bool is = at != directories.end();
    plan.info.tasks.push_back({{"name", task.name},
                               {"group", task.group},
                               {"column", task.column},
                               {"classes", task.classes},
                               {"directory", is ? nlohmann::json(at->first) : nlohmann::json()}});
    if (!is) plan.info.tasks.back()["why"] = "no directory of this name";
  }
  for (const auto& [path, task] : directories) {
    const TaskData data = DataOf(r, path, task);
    if (!task)
      plan.info.tasks.push_back({{"name", data.name},
                                 {"group", "extra"},
                                 {"column", data.name},
                                 {"classes", nullptr},
                                 {"directory", path}});
    if (!Wanted(r, data.name)) continue;
    if (task)
      if (const int found = ImageDataset(path).num_classes(); found != task->classes)
        plan.notes.push_back(
            fmt::format("{}: {} classes, VTAB-1k has {}", data.name, found, task->classes));
    AddTask(r, grid, std::vector<TaskData>(r.seeds, data), &plan);
  }
  FinishPlan(r, &plan);
  return plan;
}

}  // namespace graft
