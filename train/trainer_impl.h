// One run in progress: trainer.cc makes it ready, training_loop.cc trains it, search_loop.cc
// searches where a method has no gradients. Nobody else includes this.
#pragma once
#include <optional>

#include "runtime/cpu.h"
#include "runtime/io/json.h"
#include "runtime/process_group.h"
#include "train/black_box.h"
#include "train/budget.h"
#include "train/checkpoints.h"
#include "train/dataset.h"
#include "train/evaluator.h"
#include "train/features.h"
#include "train/trace.h"
#include "train/trainer.h"

namespace graft {

// Steps are numbered from 0 over all epochs.
class Trainer {
 public:
  Trainer(RunDir& dir, const TrainHooks& hooks)
      : dir_(dir), hooks_(hooks), c_(dir.config()), checkpoints_(dir) {}

  TrainSummary Run() {
    Open();
    const Graph whole = graph_;
    if (const MethodTerm* term = SearchedTerm(method_))
      CompileSearch(*term);
    else
      Compile();
    if (!interrupted_) BeginTrace(whole);
    if (hooks_.group) CheckOthers();
    start_seconds_ = SecondsSinceStart();
    while (progress_.step < steps_ && !interrupted_ && !StopsEarly())
      search_ ? OneRound() : OneEpoch();
    if (!interrupted_) Finish();
    return Summary();
  }

 private:
  void Open();
  void Compile();
  void CompileSearch(const MethodTerm& term);
  void RecordNames(const Graph& whole, std::vector<std::string> kept,
                   const std::vector<std::string>& more);
  void CheckLoadedState() const;
  void CheckOthers();
  void TellProducts(const Graph& compiled);
  void Share();
  void KeepFeatures(BudgetRequest& request);
  void KeepValidationFeatures(const Graph& plain, Graph* inference);
  void MakeMasks();
  void FitMaskRows();
  void BeginTrace(const Graph& whole);
  void OneEpoch();
  double OneStep(std::span<const size_t> rows);  // its loss
  StepResult StepOnFeatures(std::span<const size_t> rows, double lr);
  StepResult StepOnExamples(std::span<const size_t> rows, double lr);
  void EndEpoch(int64_t epoch, double examples_per_second);
  void OneRound();  // of a search
  Metrics Validate();
  void EndRound(EpochReport& report, nlohmann::json line);
  void SaveSearch();
  void Note(const std::string& notice) const {
    if (!notice.empty() && hooks_.note) hooks_.note("note: " + notice);
  }
  void CheckFinite() { checkpoints_.CheckFinite(model_.params, progress_.step, steps_); }
  void SaveState() {
    constexpr double kSummarySeconds = 5;  // a checkpoint may be a matter of milliseconds
    ParamStore changed;
    const ParamStore& kept = scaled_ ? KeptWeights(&changed) : model_.params;
    checkpoints_.SaveState(kept, model_.params, progress_, steps_);
    if (interrupted_ || SecondsSinceStart() - summary_time_ > kSummarySeconds) WriteSummary();
  }
  void WriteSummary();
  // Whether, at the end of an epoch, the best one is --early-stopping epochs behind.
  bool StopsEarly() const;
  void WeightClasses();
  void ScaleTargets();
  // What is written of what trains, as a model without this run's graph has it: mostly the
  // weights themselves, as a copy would be of all that trains; else `changed`, which is made.
  const ParamStore& KeptWeights(ParamStore* changed) const;
  double SumOfWeights(std::span<const size_t> rows) const;  // 0 without weights of classes
  void Finish();
  // Whether this process writes, measures and tells; the others of a group only compute.
  bool IsFirst() const { return !hooks_.group || hooks_.group->IsFirst(); }
  // Meets the other processes before a step, once its examples are there.
  void MeetOthers() {
    if (hooks_.group) group_stops_ = hooks_.group->Meet(hooks_.stop && hooks_.stop());
  }
  bool Stops() const { return hooks_.group ? group_stops_ : hooks_.stop && hooks_.stop(); }
  double Rate(int64_t step) const { return LearningRate(c_, step, schedule_steps_); }
  TrainSummary Summary() const;

  int64_t epoch_of(int64_t step) const { return step / steps_per_epoch_; }
  double Batches(size_t examples) const {
    return static_cast<double>(examples) / static_cast<double>(c_.batch_size);
  }
  // Whether steps read examples: kept features stand for them, unless a trace draws masks of their
  // rows.
  bool ReadsExamples() const { return !features_ || (trace_ && trace_->draws_masks()); }
  std::vector<size_t> EpochOrder(int64_t epoch) const;

  RunDir& dir_;
  const TrainHooks& hooks_;
  const RunConfig& c_;
  Checkpoints checkpoints_;
  LoadedModel model_;
  Method method_;
  std::unique_ptr<BatchSource> train_, validation_;
  std::vector<Skipped> skipped_;
  Graph graph_;
  std::optional<CompiledStep> compiled_;
  TrainStep* step_ = nullptr;       // of compiled_
  std::optional<BlackBox> search_;  // instead of them, where the method is searched
  std::optional<Evaluator> evaluator_;
  std::unique_ptr<Trace> trace_;
  std::optional<Features> features_;  // of the training examples, if the first layers are frozen
  std::optional<std::vector<std::string>> loaded_state_;  // names, if there was one
  Progress progress_;
  std::string products_;               // the precision that they are in
  std::vector<double> class_weights_;  // [K], or empty
  bool scaled_ = false;                // the targets of a regression (target_scale.h)
  float* shift_ = nullptr;             // of calibration, which is 0 but while it validates
  int64_t schedule_steps_ = 0;         // that the learning rate is made for
  int64_t steps_ = 0, steps_per_epoch_ = 0, trainable_count_ = 0, stored_count_ = 0;
  int64_t examples_seen_ = 0;
  double session_seconds_ = 0, start_seconds_ = 0, summary_time_ = 0;
  double step_seconds_ = 0;  // of the session, without the features of frozen layers
  double work_ = 0;          // of the last step, in full micro-batches
  bool measurable_ = true, interrupted_ = false, told_ = false, group_stops_ = false;
};

}  // namespace graft
