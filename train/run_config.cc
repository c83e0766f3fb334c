#include "train/run_config.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numbers>

#include "data/augment.h"
#include "runtime/io/cache_folder.h"
#include "runtime/words.h"
#include "train/parameter_words.h"
#include "train/task_metrics.h"

namespace graft {

namespace {

void InRange(const char* flag, double value, double min, double max) {
  if (!(value >= min && value <= max))
    FailUsage("--{}: expected {} to {}, found {}", flag, min, max, value);
}

void OneOfWords(const char* flag, const std::string& value, const std::vector<std::string>& words) {
  if (std::find(words.begin(), words.end(), value) == words.end())
    FailUsage("--{}: '{}'; known: {}", flag, value, fmt::join(words, ", "));
}

// Reads a list of numbers joined by '|'.
std::vector<double> ParseWeights(const std::string& words) {
  std::vector<double> weights;
  for (const std::string& word : SplitAt(words, '|')) {
    double value = 0;
    const char* end = word.data() + word.size();
    const auto [stop, error] = std::from_chars(word.data(), end, value);
    if (error != std::errc() || stop != end || !(value > 0 && value < 1e9))
      FailUsage(
          "--class-weights '{}': expected balanced, or a number above 0 for each class, "
          "joined by '|'",
          words);
    weights.push_back(value);
  }
  return weights;
}

void CheckMetric(const RunConfig& c) {
  if (FindMetric(c.task, c.best_metric)) return;
  std::vector<std::string> names;
  for (const MetricInfo& m : MetricsOf(c.task)) names.emplace_back(m.name);
  FailUsage("--best-metric: '{}'; known{}: {}", c.best_metric,
            c.task == kClassify ? "" : " of --task " + c.task, fmt::join(names, ", "));
}

// Refuses options that mean something only where one of several classes is chosen.
void CheckTask(const RunConfig& c) {
  if (c.task == kClassify) return;
  const auto refuse = [&](const char* flag, bool given, const char* why) {
    if (given) FailUsage("--{}: not with --task {}: {}", flag, c.task, why);
  };
  refuse("label-smoothing", c.label_smoothing != 0, "it is of one class among several");
  refuse("class-weights", !c.class_weights.empty(), "they are of one class among several");
  refuse("augment", c.task == kRegression && ParseAugment(c.augment).mixes(),
         "mixup and cutmix mix labels, and half a picture of each is no picture of the mean");
  for (const MethodTerm& term : ParseMethod(c.method))
    refuse("method", term.name == "calibration",
           "calibration makes the probabilities of classes equal");
}

void CheckClassWeights(const std::string& words) {
  if (!words.empty() && words != "balanced") ParseWeights(words);
}

}  // namespace

std::vector<double> ClassWeights(const std::string& words, const std::vector<int64_t>& counts) {
  if (words.empty()) return {};
  if (words != "balanced") {
    std::vector<double> weights = ParseWeights(words);
    if (weights.size() != counts.size())
      FailUsage("--class-weights '{}': {} numbers, but the data have {} classes", words,
                weights.size(), counts.size());
    return weights;
  }
  double examples = 0, present = 0;
  for (const int64_t count : counts)
    examples += static_cast<double>(count), present += count > 0 ? 1 : 0;
  std::vector<double> weights;
  for (const int64_t count : counts)
    weights.push_back(count > 0 ? examples / (present * static_cast<double>(count)) : 1);
  return weights;
}

void CheckRunConfig(const RunConfig& c) {
  CheckFacts(c);
  InRange("epochs", static_cast<double>(c.epochs), 1, 1e6);
  InRange("batch-size", static_cast<double>(c.batch_size), 1, 65536);
  InRange("micro-batch", static_cast<double>(c.micro_batch), 0, static_cast<double>(c.batch_size));
  InRange("lanes", static_cast<double>(c.lanes), 0, static_cast<double>(kLanesBound));
  InRange("lr", c.lr, 0, 1e6), InRange("weight-decay", c.weight_decay, 0, 1e6);
  InRange("warmup", c.warmup, 0, 1), InRange("label-smoothing", c.label_smoothing, 0, 0.999);
  InRange("drop-path", c.drop_path, 0, 0.999), InRange("momentum", c.momentum, 0, 0.99999);
  InRange("clip", c.clip, 0, 1e9), InRange("limit", static_cast<double>(c.limit), 0, 1e15);
  InRange("save-every", static_cast<double>(c.save_every), 0, 1e15);
  InRange("holdout", c.holdout, 0, 0.9);
  InRange("early-stopping", static_cast<double>(c.early_stopping), 0, 1e6);
  InRange("schedule-epochs", static_cast<double>(c.schedule_epochs), 0, 1e6);
  CheckMetric(c);
  CheckTask(c);
  CheckClassWeights(c.class_weights);
  WithoutDecay(c.no_decay, "", 0), RateFactor(c.lr_scale, "", 0);
  ParseAugment(c.augment);
  OneOfWords("schedule", c.schedule, {"cosine", "linear", "constant"});
  OneOfWords("optimizer", c.optimizer, {"adamw", "sgd"});
}

double LearningRate(const RunConfig& c, int64_t step, int64_t steps) {
  const double n = static_cast<double>(steps), i = static_cast<double>(step);
  if (c.schedule == kFindSchedule)
    return kFindLeast * std::pow(kFindMost / kFindLeast, i / static_cast<double>(kFindSteps - 1));
  const double warm = c.warmup > 0 ? std::max(1.0, std::floor(c.warmup * n)) : 0;
  if (i < warm) return c.lr * (i + 1) / warm;
  if (c.schedule == "constant") return c.lr;
  const double done = (i - warm) / std::max(1.0, n - warm);
  if (c.schedule == "linear") return c.lr * (1 - done);
  return c.lr * 0.5 * (1 + std::cos(std::numbers::pi * done));
}

PassOptions PassesOf(const RunConfig& config) {
  return {config.disabled_passes, ParsePrecision(config.dtype, config.keep)};
}

OptimizerConfig OptimizerOf(const RunConfig& c) {
  OptimizerConfig o;
  o.kind = c.optimizer == "sgd" ? OptimizerKind::kSgd : OptimizerKind::kAdamW;
  o.momentum = c.momentum;
  o.weight_decay = c.weight_decay;
  o.clip = c.clip;
  if (!c.no_decay.empty())
    o.decays = [words = c.no_decay](const std::string& name, int rank) {
      return !WithoutDecay(words, name, rank);
    };
  if (!c.lr_scale.empty())
    o.rate_factor = [rules = c.lr_scale](const std::string& name, int rank) {
      return RateFactor(rules, name, rank);
    };
  o.on_gradient = GradientTransformOf(ParseMethod(c.method), static_cast<uint64_t>(c.seed));
  return o;
}

double DefaultLearningRate(const Method& method, bool text) {
  double rate = 1;
  for (const MethodTerm& term : method)
    rate = std::min(rate, FindMethod(term.name).learning_rate.Of(text));
  return rate;
}

size_t ParseBytes(const std::string& text) {
  if (const std::optional<size_t> bytes = BytesIn(text)) return *bytes;
  FailUsage("--memory-budget '{}': expected a size such as 1.5GiB or 800MiB", text);
}

}  // namespace graft
