// The training loop: epochs, steps, validation and checkpoints of Trainer (trainer_impl.h).
#include <algorithm>
#include <chrono>
#include <cmath>

#include "runtime/io/json.h"
#include "runtime/rng.h"
#include "train/calibrate.h"
#include "train/ordered_data.h"
#include "train/run_summary.h"
#include "train/target_scale.h"
#include "train/task_metrics.h"
#include "train/trainer_impl.h"

namespace graft {

namespace {

using Clock = std::chrono::steady_clock;
double Since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// The value of --best-metric with its sign chosen so that larger is better.
double Score(const Metrics& m, const RunConfig& c) {
  const double value = FindMetric(c.task, c.best_metric)->value(m);
  return MetricOfScore(c.best_metric, value);  // its own inverse
}

}  // namespace

std::vector<size_t> Trainer::EpochOrder(int64_t epoch) const {
  const StreamKey key{MakeKey(static_cast<uint64_t>(c_.seed), Purpose::kOrder, ""),
                      static_cast<uint64_t>(epoch), 0};
  const std::vector<int32_t> order = Permutation(static_cast<int32_t>(train_->size()), key);
  return {order.begin(), order.end()};
}

StepResult Trainer::StepOnFeatures(std::span<const size_t> rows, double lr) {
  Session& session = step_->session();
  if (ReadsExamples()) train_->Take(rows.size());
  MeetOthers();
  work_ = static_cast<double>(rows.size()) / static_cast<double>(step_->micro_batch());
  return step_->Run(
      std::ssize(rows), progress_.step, lr,
      [&](int64_t first, int64_t count, int worker) {
        float* input = session.Input("features", worker).f32();
        int32_t* labels =
            session.HasInput("labels") ? session.Input("labels", worker).i32() : nullptr;
        for (const size_t row : rows.subspan(first, count)) {
          if (labels) *labels++ = train_->label(row);
          input = std::copy_n(features_->of(row), features_->size, input);
        }
        FillTargets(*train_, rows.subspan(first, count), worker, &session);
      },
      SumOfWeights(rows));
}

StepResult Trainer::StepOnExamples(std::span<const size_t> rows, double lr) {
  Session& session = step_->session();
  train_->Take(rows.size());
  MeetOthers();
  const Counts& full = session.options().capacity;
  const std::vector<Counts> parts = train_->Parts(full);
  work_ = 0;
  for (const Counts& part : parts)
    work_ += full.tokens
                 ? static_cast<double>(part.tokens) / static_cast<double>(full.tokens)
                 : static_cast<double>(part.sequences) / static_cast<double>(full.sequences);
  const auto fill = [&](int64_t first, int64_t count, int worker) {
    train_->Fill(session, first, count, worker);
  };
  const double weights = SumOfWeights(rows);
  return step_->Run(parts, progress_.step, lr, fill,
                    weights > 0 ? weights : static_cast<double>(train_->Losses()));
}

double Trainer::OneStep(std::span<const size_t> rows) {
  const int64_t step = progress_.step;
  const double lr = Rate(step);
  const StepResult result = features_ ? StepOnFeatures(rows, lr) : StepOnExamples(rows, lr);
  if (!std::isfinite(result.loss))  // the sign of a NaN means nothing
    checkpoints_.StopNonFinite(
        fmt::format("the loss is {} at step {} of {} (epoch {}, learning rate {:.3g})",
                    std::fabs(result.loss), step + 1, steps_, epoch_of(step) + 1, lr),
        step > 0);
  if (trace_) trace_->Step(step, rows, result.loss, lr, *train_);
  progress_.epoch_loss_sum += result.loss * Batches(rows.size());
  ++progress_.step;
  return result.loss;
}

void Trainer::OneEpoch() {
  const int64_t epoch = epoch_of(progress_.step);
  const std::vector<size_t> order = EpochOrder(epoch);
  const size_t batch = static_cast<size_t>(c_.batch_size);
  const size_t done = static_cast<size_t>(progress_.step % steps_per_epoch_) * batch;
  train_->SetEpoch(epoch);
  if (ReadsExamples()) train_->Start({order.begin() + static_cast<ptrdiff_t>(done), order.end()});
  const double flops = step_->session().cost(Phase::kMain).flops;  // of a full micro-batch
  double epoch_seconds = 1e-9;
  for (size_t at = done; at < order.size(); at += batch) {
    const Clock::time_point start = Clock::now();
    const size_t count = std::min(batch, order.size() - at);
    const double loss = OneStep({&order[at], count});
    const double seconds = Since(start);
    progress_.seconds += seconds, session_seconds_ += seconds, epoch_seconds += seconds;
    step_seconds_ += seconds;
    examples_seen_ += static_cast<int64_t>(count);
    if (hooks_.on_step)
      hooks_.on_step({progress_.step, steps_, epoch + 1, c_.epochs, loss, Rate(progress_.step - 1),
                      static_cast<double>(count) / seconds, flops * work_ / seconds * 1e-9,
                      step_seconds_ / static_cast<double>(examples_seen_) *
                          static_cast<double>(c_.batch_size * (steps_ - progress_.step)),
                      train_->unit()});
    const bool ends = at + count == order.size();
    if (ends) EndEpoch(epoch, static_cast<double>(order.size() - done) / epoch_seconds);
    if (ends && !std::exchange(told_, true)) Note(train_->notice());  // all have been read
    if (Stops()) {
      interrupted_ = progress_.step < steps_;
      SaveState();
      return;
    }
    if (ends || (c_.save_every && progress_.step % c_.save_every == 0)) SaveState();
  }
}

void Trainer::EndEpoch(int64_t epoch, double examples_per_second) {
  CheckFinite();
  progress_.last_loss = progress_.epoch_loss_sum / Batches(train_->size());
  progress_.epoch_loss_sum = 0;
  EpochReport report{epoch + 1,        c_.epochs,           progress_.last_loss,
                     session_seconds_, examples_per_second, train_->unit()};
  nlohmann::json line{{"epoch", epoch + 1},
                      {"step", progress_.step},
                      {"train_loss", progress_.last_loss},
                      {"lr", Rate(progress_.step - 1)},
                      {"seconds", progress_.seconds}};
  EndRound(report, std::move(line));
}

// What is kept of the run is calibrated, so that is what is measured; training never sees it.
Metrics Trainer::Validate() {
  if (!shift_) return evaluator_->Run(*validation_);
  const ParamStore calibrated = Calibrated(model_, method_, c_);
  const std::span<const float> shift = calibrated.values(kCalibrationShift);
  std::ranges::copy(shift, shift_);
  const Metrics result = evaluator_->Run(*validation_);
  std::fill_n(shift_, shift.size(), 0.f);
  return result;
}

// Validates, keeps what is the best so far, and reports the epoch.
void Trainer::EndRound(EpochReport& report, nlohmann::json line) {
  if (evaluator_) {
    report.validated = true, report.masked_words = MasksWords(c_), report.task = c_.task;
    report.validation = Validate();
    if (!std::isfinite(report.validation.loss))  // no measure says anything then
      checkpoints_.StopNonFinite(
          fmt::format("the loss on the validation split '{}' is {} after epoch {} of {}",
                      c_.val_split, std::fabs(report.validation.loss), report.epoch, c_.epochs));
    if (c_.task == kClassify) progress_.val_accuracy = report.validation.accuracy;
    for (const MetricInfo& metric : MetricsOf(c_.task))
      if (!report.masked_words || metric.name == std::string("accuracy") ||
          metric.name == std::string("loss"))
        line["val_" + std::string(metric.name)] = metric.value(report.validation);
    if (report.masked_words) line["val_perplexity"] = std::exp(report.validation.loss);
  }
  checkpoints_.CheckBase();
  const double score = evaluator_ ? Score(report.validation, c_) : 0;
  if (evaluator_ && score > progress_.best_metric) {
    progress_.best_metric = score, progress_.best_epoch = report.epoch;
    report.best = true;
    ParamStore changed;
    if (IsFirst()) checkpoints_.SaveBest(KeptWeights(&changed));
  }
  dir_.AppendMetrics(DumpJson(line));
  if (hooks_.on_epoch) hooks_.on_epoch(report);
}

const ParamStore& Trainer::KeptWeights(ParamStore* changed) const {
  if (!scaled_ && !WantsCalibration(method_)) return model_.params;
  return *changed = scaled_ ? WithScaleInHead(model_.params, checkpoints_.trainable())
                            : Calibrated(model_, method_, c_);
}

bool Trainer::StopsEarly() const {
  if (c_.early_stopping == 0 || progress_.step % steps_per_epoch_ != 0) return false;
  return progress_.step / steps_per_epoch_ - progress_.best_epoch >= c_.early_stopping;
}

double Trainer::SumOfWeights(std::span<const size_t> rows) const {
  double sum = 0;
  if (!class_weights_.empty())
    for (const size_t row : rows) sum += class_weights_[train_->label(row)];
  return sum;
}

void Trainer::WriteSummary() {
  summary_time_ = SecondsSinceStart();
  const TrainSummary s = Summary();
  const RunSummary summary{steps_,
                           s.trainable_parameters,
                           s.stored_parameters,
                           s.planned_bytes,
                           PeakResidentBytes(),
                           s.examples_per_second,
                           evaluator_.has_value(),
                           s.stopped_early,
                           hooks_.command,
                           products_};
  dir_.Write("summary.json",
             DumpJson(SummaryJson(c_, progress_, summary, ReadSummary(dir_.path())), 1) + "\n");
}

void Trainer::Finish() {
  if (!IsFirst()) return;
  checkpoints_.CheckBase();
  ParamStore changed;
  const ParamStore& kept = KeptWeights(&changed);
  if (!evaluator_) checkpoints_.SaveBest(kept);  // without validation, best is last
  if (trace_) trace_->Finish(model_.params, checkpoints_.trainable());
  progress_.finished = true;
  checkpoints_.SaveState(kept, scaled_ ? model_.params : kept, progress_, steps_);
  WriteSummary();
}

}  // namespace graft
