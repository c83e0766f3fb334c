// The training loop: epochs, evaluation, checkpoints, trace, resume.
#pragma once
#include "train/dataset.h"
#include "train/evaluator.h"
#include "train/run_dir.h"

namespace graft {

class ProcessGroup;

struct StepReport {
  int64_t step = 0, steps = 0, epoch = 0, epochs = 0;  // from 1; epochs 0: the steps have none
  double loss = 0, learning_rate = 0, examples_per_second = 0, gflops = 0, seconds_left = 0;
  const char* unit = "";  // "images", "texts"
};
struct EpochReport {
  int64_t epoch = 0, epochs = 0;  // from 1
  double train_loss = 0, seconds = 0;
  double examples_per_second = 0;  // of this epoch, without features of frozen layers
  const char* unit = "";
  bool validated = false, masked_words = false;  // masked_words: of plain texts
  std::string task = kClassify;
  bool best = false;  // so far
  Metrics validation = {};
};

// What a run is; told once its model and data are open.
struct BeginReport {
  const RunConfig* config = nullptr;
  const LoadedModel* model = nullptr;
  int64_t train = 0, validation = 0;  // examples
  const char* unit = "";
  int64_t first_step = 0, steps = 0, steps_per_epoch = 0;
  int64_t parameters = 0, trainable_parameters = 0;  // of the model with its method
};
// How the run is computed; told once that is planned.
struct PlanReport {
  size_t planned_bytes = 0;
  int64_t micro_batch = 0;
  bool features = false;  // of the frozen layers are kept
  const RunConfig* config = nullptr;
  std::string products = {};  // the precision that they are in
};

struct TrainHooks {
  std::string command;                           // that trains, for summary.json
  std::function<void(const std::string&)> note;  // one line of text
  std::function<void(const BeginReport&)> on_start;
  std::function<void(const PlanReport&)> on_plan;
  WorkHook on_work;  // features, validation
  std::function<void(const StepReport&)> on_step;
  std::function<void(const EpochReport&)> on_epoch;
  std::function<bool()> stop;  // true: save and return after this step
  // The processes that train this run together (runtime/process_group.h); null if this one is
  // alone. All of them call Train with the same run: the first has the directory, the others
  // RunDir::Follow. Only the first should have the hooks that tell.
  ProcessGroup* group = nullptr;
};

struct TrainSummary {
  RunConfig config;
  int64_t steps = 0, trainable_parameters = 0;
  int64_t stored_parameters = 0;  // of them after training (StoredCount)
  double final_train_loss = 0, val_accuracy = -1, seconds = 0, examples_per_second = 0;
  size_t planned_bytes = 0;
  bool interrupted = false, stopped_early = false;
  double start_seconds = 0;           // from the start of the process to the first step
  std::optional<Layout> layout = {};  // of the model; not of a run that was finished before
  std::vector<Skipped> skipped = {};  // what --skip-bad left out
  std::optional<double> best = {};    // of config.best_metric, where the run was validated
  int64_t best_epoch = 0;             // from 1; 0 = not validated
  bool measurable = true;             // whether the data have a split that was not trained on
  std::string products = {};          // the precision that they are in; "" as `layout`
};

// Trains from where the directory's state stands to the end, or until stop() or an error. A base
// hash that is not known yet is computed meanwhile and recorded before the first checkpoint. Throws
// Error of kind kNonFinite when the loss is no longer a finite number; the last good checkpoint
// stays. The bits of what is trained do not depend on the size of the group.
TrainSummary Train(RunDir& dir, const TrainHooks& hooks);

}  // namespace graft
