// Everything that is needed to repeat a run.
#pragma once
#include <algorithm>

#include "adapters/facts.h"
#include "adapters/method_graph.h"
#include "autograd/train_step.h"
#include "peft/method.h"

namespace graft {

// Let CompleteRunConfig decide whether a part is held out: this share, where there is nothing else
// to validate on.
inline constexpr double kHoldoutByDefault = -1, kDefaultHoldout = 0.2;

// Lets CompleteRunConfig choose the batch size: small for labelled texts, of which there are few
// and each is a row of tokens.
inline constexpr int64_t kBatchByKind = -1, kImageBatch = 64, kTextBatch = 16;

inline constexpr int64_t kLanesBound = 1024;

// What an adapter of the run will carry, and the settings of its training.
struct RunConfig : AdapterFacts {
  std::string data, train_split, val_split;  // val_split "" = none
  std::string columns;                       // of texts, as ParseTextColumns; "" = the usual names
  std::string read_columns;                  // that were found (TextDataset), for predict
  double holdout = 0;     // share of the training split that is held out (data/holdout.h); 0: none
  bool skip_bad = false;  // leave out what cannot be read
  std::string examples_sha256;  // of their classes and lengths; "" = not known yet
  std::string contents_sha256;  // of tokens, or of names and sizes of images; "" = not known
  int64_t epochs = 10, batch_size = 64, micro_batch = 0;  // micro_batch 0 = chosen at compile
  int64_t lanes = 0;                                      // of TrainStep; 0 = chosen at compile
  double lr = 0, weight_decay = 1e-4, warmup = 0.1, label_smoothing = 0, drop_path = 0;
  double momentum = 0.9, clip = 0;
  std::string schedule = "cosine", optimizer = "adamw";
  int64_t limit = 0, save_every = 0;
  bool allow_overlap = false;
  std::string augment;   // of images, as ParseAugment
  std::string no_decay;  // what weight decay leaves alone, as WithoutDecay
  std::string lr_scale;  // factors of the learning rate, as RateFactor
  std::string memory_budget, trace, isa;
  std::vector<std::string> disabled_passes;
  std::string dtype = "f32", keep;       // of products with weights, as ParsePrecision
  int64_t early_stopping = 0;            // epochs without a better validation metric; 0 = never
  std::string best_metric = "accuracy";  // of the validation split: which epoch is the best;
                                         // "" = the first of MetricsOf(task)
  std::string class_weights;             // in the loss, as ClassWeights; "" = none
  bool scale_targets = false;            // of a regression (target_scale.h)
  // The epochs that the warm-up was made for, if the run was given another number since; 0 means
  // `epochs`.
  int64_t schedule_epochs = 0;

  // Fields that configurations of earlier versions lack: their defaults are what was done then.
  static constexpr const char* kLater[] = {"holdout",
                                           "skip_bad",
                                           "augment",
                                           "no_decay",
                                           "head",
                                           "template",
                                           "words",
                                           "objective",
                                           "whole_words",
                                           "early_stopping",
                                           "best_metric",
                                           "class_weights",
                                           "schedule_epochs",
                                           "dtype",
                                           "keep",
                                           "task",
                                           "lanes",
                                           "scale_targets",
                                           "lr_scale",
                                           "read_columns",
                                           "texts",
                                           "tokenizer_sha256",
                                           "contents_sha256"};

  static void Visit(auto& self, auto&& f) {
    AdapterFacts::Visit(self, f);
    f("data", self.data), f("train_split", self.train_split), f("val_split", self.val_split);
    f("columns", self.columns), f("examples_sha256", self.examples_sha256);
    f("contents_sha256", self.contents_sha256);
    f("read_columns", self.read_columns);
    f("holdout", self.holdout), f("skip_bad", self.skip_bad);
    f("epochs", self.epochs), f("batch_size", self.batch_size), f("micro_batch", self.micro_batch);
    f("lanes", self.lanes);
    f("lr", self.lr), f("weight_decay", self.weight_decay), f("warmup", self.warmup);
    f("label_smoothing", self.label_smoothing), f("drop_path", self.drop_path);
    f("momentum", self.momentum), f("clip", self.clip), f("schedule", self.schedule);
    f("optimizer", self.optimizer), f("limit", self.limit), f("save_every", self.save_every);
    f("allow_overlap", self.allow_overlap), f("augment", self.augment);
    f("no_decay", self.no_decay), f("lr_scale", self.lr_scale);
    f("memory_budget", self.memory_budget), f("trace", self.trace), f("isa", self.isa);
    f("disabled_passes", self.disabled_passes), f("dtype", self.dtype), f("keep", self.keep);
    f("early_stopping", self.early_stopping), f("best_metric", self.best_metric);
    f("scale_targets", self.scale_targets);
    f("class_weights", self.class_weights), f("schedule_epochs", self.schedule_epochs);
  }
};

// Refuses values outside their ranges, naming the flag and the nearest valid word.
void CheckRunConfig(const RunConfig& config);

// The passes that the graphs of a run are compiled with.
PassOptions PassesOf(const RunConfig& config);

// Lets CompleteRunConfig tell the task from the data.
inline constexpr const char* kTaskByData = "";

// The measures of a validation split that --best-metric knows, of all tasks (task_metrics.h).
const std::vector<std::string>& MetricNames();

// The weights of K classes in the loss, by --class-weights: `balanced`, n / (K n_c) of n training
// examples of which n_c are of class c (as scikit-learn's class_weight; K counts the classes that
// have any, the others get 1), or K numbers above 0 joined by '|'. "" gives none. Throws Error.
std::vector<double> ClassWeights(const std::string& words, const std::vector<int64_t>& counts);

// Rate of step i of n: warm = max(1, floor(warmup n)) steps up linearly, (i+1)/warm; then cosine to
// 0, linear to 0, or constant. With warmup 0 there are no warm steps.
// Of --lr-find: step i has kFindLeast (kFindMost / kFindLeast)^(i / (kFindSteps - 1)).
inline constexpr const char* kFindSchedule = "find";
inline constexpr int64_t kFindSteps = 100;
inline constexpr double kFindLeast = 1e-6, kFindMost = 1;
double LearningRate(const RunConfig& config, int64_t step, int64_t steps);

OptimizerConfig OptimizerOf(const RunConfig& config);

// The rate that is used when none is given, for a model of texts or of images: the smallest of the
// terms' defaults (see the records).
double DefaultLearningRate(const Method& method, bool text);

// --memory-budget: "1.5GiB", "800MiB", "2e9" -> bytes.
size_t ParseBytes(const std::string& text);

}  // namespace graft
