// What a command asks of a suite, and the units that follow from it. docs/suites.md has the
// protocols.
#pragma once
#include "suites/unit.h"

namespace graft {

struct SuiteRequest {
  std::string kind;     // vtab, few-shot, text, shift, ablate
  std::string out;      // the suite's directory
  std::string lists;    // where lists are written: SUITE/lists
  std::string command;  // for people
  RunConfig config;     // model, training options and the first seed; the rest is open
  std::vector<std::string> methods;
  int64_t seeds = 1;               // config.seed and those that follow it
  std::vector<std::string> tasks;  // those of the data that are wanted; empty: all
  std::string select;              // a grid (grid.h) to choose from; "" = none
  bool select_on_test = false;     // on the test examples, which every number then says
  int64_t test_limit = 0;          // test examples of each task, the first ones; 0 = all

  std::vector<std::string> shots;  // of few-shot and text: numbers, or "all"
  std::string images;              // of published few-shot lists
  std::vector<std::string> test;   // of shift: directories
  std::vector<std::string> masks;  // of shift: NAME=FILE
  std::vector<std::string> over;   // of ablate: grids
  std::string split;               // of ablate: what is measured; "" = the validation split
};

// These throw Error, before anything is trained, for a task that is not there, lists that name
// missing files, classes that disagree, and a method that does not fit the model; kUsage for a
// request that makes no sense. Lists are written below request.lists.
SuitePlan PlanVtab(const SuiteRequest& request);
SuitePlan PlanFewShot(const SuiteRequest& request);
SuitePlan PlanText(const SuiteRequest& request);
SuitePlan PlanShift(const SuiteRequest& request);
SuitePlan PlanAblation(const SuiteRequest& request);
SuitePlan PlanSuite(const SuiteRequest& request);  // by its kind

// The metric by which papers judge a task of texts: matthews for CoLA; f1 for MRPC, QQP and SMS
// Spam; accuracy for others.
std::string TextMetric(const std::string& task);

// --- for the above

// One task with one seed: what is trained on, and what is measured afterwards.
struct TaskData {
  std::string name, group, metric = "accuracy";
  nlohmann::json options = nlohmann::json::object();  // {"shots": 4}
  struct Side {
    std::string data, columns, split;
    std::vector<Measurement> measure;
    std::string protocol;
  };
  Side final_side;                  // trains, and is tested
  std::optional<Side> choice_side;  // trains, and is measured for --select; nothing: why_no_choice
  std::string why_no_choice;
};

// Adds the units of a task for all methods of the request; `by_seed` has its data for each seed.
// Without a grid there is one unit for each seed; with one, the choices of the first seed and a
// selection.
void AddTask(const SuiteRequest& request, const std::vector<GridAxis>& grid,
             const std::vector<TaskData>& by_seed, SuitePlan* plan);
// Adds the units of an ablation for a task with these options, one for each seed.
void AddVariant(const SuiteRequest& request, const TaskData& task, const Choice& choice,
                SuitePlan* plan);
// Begins a plan without units: canonical methods, and what all units have in common.
SuitePlan StartPlan(const SuiteRequest& request, const std::string& protocol);
// Adds hashes, and checks every method with every option on the model of its first unit.
void FinishPlan(const SuiteRequest& request, SuitePlan* plan);

// The last part of a path: "cifar" of "vtab-1k/cifar/".
std::string BaseName(const std::string& directory);
// The directories in this one, sorted by name, without hidden ones.
std::vector<std::string> FoldersIn(const std::string& directory);
// Whether the request wants a task. CheckWanted throws Error if it wants one that is not there.
bool Wanted(const SuiteRequest& request, const std::string& task);
void CheckWanted(const SuiteRequest& request, const std::vector<std::string>& found);

}  // namespace graft
