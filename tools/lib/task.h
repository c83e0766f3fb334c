// What the commands share: a model made ready for a data set, its graphs, and evaluation.
#pragma once
#include <functional>

#include "data/metrics.h"
#include "graft/method_graph.h"
#include "tools/lib/task_data.h"

namespace graft {

// A run or adapter means nothing on other weights than those it was trained on: throws Error if the
// SHA-256 of config.model is not config.base_sha256. Nothing is checked where that is empty
// (init:).
void CheckBase(const RunConfig& config);

// How the plain model is opened: LoadModel, or a function that shares what it has opened.
using OpenBase =
    std::function<LoadedModel(const std::string& source, const std::string& arch, uint64_t seed)>;

// Refuses options of texts for a model that reads images and the other way; "" and 0 = not given.
void CheckInputOptions(const LoadedModel& model, const std::string& preprocess,
                       const std::string& tokenizer, int64_t max_length);

// Fills in what the user left open (learning rate, splits, preprocessing, labels, and the base's
// hash if it is known already) and checks the data: split names, labels, overlap, at least two
// classes.
RunConfig CompleteRunConfig(RunConfig config);

// The model of a run, adapted to its task (image size, head); `params` of the model then hold the
// base weights and the fresh head. Deterministic: eval and fuse make the same model again. Throws
// Error if the model's file is not the one that the run started from, by hash.
LoadedModel OpenTaskModel(const RunConfig& config, const OpenBase& open = LoadModel);

// Of the metadata graft.preprocess; Error naming the file.
Preprocess PreprocessOfMetadata(const std::string& text, const std::string& file);

// The transform that a run uses: `text` if given, else the default for data sets (VTAB) at the
// model's image size.
Preprocess DataPreprocess(const std::string& text, const VitConfig& model);
// The transform of a model that is used alone: its metadata's, else its own (shorter side 256, crop
// 224).
Preprocess ModelPreprocess(const std::string& text, const LoadedModel& model);

struct Metrics {
  int64_t n = 0;
  double accuracy = 0, mean_class_accuracy = 0, loss = 0, seconds = 0;
  double macro_f1 = 0, matthews = 0;
  ConfusionMatrix confusion{0};
};

// A compiled inference graph that is fed from a data set.
class Evaluator {
 public:
  // Trainable parameters may change between runs.
  Evaluator(const Graph& graph, ParamStore& params, const SessionOptions& options,
            const std::vector<std::string>& disabled_passes = {});
  // Measures over all examples; `logits`, if given, receives [n, classes]. The graph has the
  // outputs logits and losses.
  Metrics Run(TaskData& data, std::vector<float>* logits = nullptr);
  // Of each named output, such as logits [n, classes], the rows of all examples in order.
  std::vector<std::vector<float>> Outputs(TaskData& data, std::span<const std::string> names);
  std::vector<float> Logits(TaskData& data);
  Session& session() { return session_; }

 private:
  // Where the rows of an output go, for all examples of a batch.
  struct Target {
    std::string output;
    float* rows;
  };
  void Compute(const TaskData& data, std::span<const Target> targets);
  // Examples that are read and computed between two waits for the data.
  size_t AtOnce() const;

  Session session_;
  std::map<std::string, size_t> columns_;  // by output
};

// The examples from the first to the last.
std::vector<size_t> InOrder(const TaskData& data);

// run(i, first, worker) for every part i of a batch, whose first example is `first` (ForEachRun).
void ForEachPart(Session& session, std::span<const Counts> parts,
                 const std::function<void(size_t i, int64_t first, int worker)>& run);

// Metadata of fused files: those of ModelFacts, graft.recipe, graft.base_sha256, graft.preprocess,
// of a BERT graft.max_length.
StringMap ModelMetadata(const LoadedModel& model, const RunConfig& config);

}  // namespace graft
