// Inference over the examples of a data set, and how right it is.
#pragma once
#include <algorithm>
#include <functional>

#include "adapters/method_graph.h"
#include "data/metrics.h"
#include "data/target_metrics.h"
#include "train/batches.h"

namespace graft {

class ProcessGroup;

struct Metrics {
  int64_t n = 0;
  double accuracy = 0, mean_class_accuracy = 0, loss = 0, seconds = 0;
  double macro_f1 = 0, matthews = 0;
  ConfusionMatrix confusion{0};
  RegressionMeasures regression;   // instead of those of classes
  MultiLabelMeasures multi_label;  // likewise
};

// How far a long piece of work is: what it is, and how many of how many examples are done.
using WorkHook = std::function<void(const char* what, size_t done, size_t total, const char* unit)>;

// A compiled inference graph that is fed from a data set.
class Evaluator {
 public:
  // Trainable parameters may change between runs.
  Evaluator(const Graph& graph, ParamStore& params, const SessionOptions& options,
            const PassOptions& passes = {});
  // Measures over all examples or, of masked words, over these, of which only loss and accuracy are
  // given. What is measured of targets follows from the graph's loss. `logits`, if given, receives
  // [n, classes] for the examples. The graph has the outputs logits and losses.
  Metrics Run(BatchSource& data, std::vector<float>* logits = nullptr);
  // Returns for each named output, such as logits [n, classes], the rows of all examples in order,
  // without those that are bad (OnBad).
  std::vector<std::vector<float>> Outputs(BatchSource& data, std::span<const std::string> names);
  std::vector<float> Logits(BatchSource& data);
  Session& session() { return session_; }
  // From here on the processes divide the parts of each batch among them, and all have all results;
  // each calls Run for the same data.
  void ShareWith(ProcessGroup* group) { group_ = group; }
  // hook(what, ...) is called after each batch.
  void OnProgress(const char* what, WorkHook hook) { what_ = what, hook_ = std::move(hook); }
  // each(example, logits) is called by Run for every example in order.
  using Each = std::function<void(size_t example, std::span<const float> logits)>;
  void OnExample(Each each) { each_ = std::move(each); }
  // Sets a function bad(example, why) that Outputs calls for an example that cannot be read, before
  // it goes on with the others. Without it such an example is an Error.
  using Bad = std::function<void(size_t example, const std::string& why)>;
  void OnBad(Bad bad) { bad_ = std::move(bad); }

 private:
  // Where the rows of an output go, for all examples of a batch.
  struct Target {
    std::string output;
    float* rows;
  };
  void Compute(const BatchSource& data, std::span<const Target> targets);
  Metrics RunTargets(BatchSource& data, std::vector<float>* logits);
  Metrics RunMasked(BatchSource& data);

  size_t LeaveOutBad(BatchSource& data, std::vector<size_t>* order, size_t begin, size_t count);
  void Report(const BatchSource& data, size_t done) const {
    if (hook_) hook_(what_, std::min(done, data.size()), data.size(), data.unit());
  }

  Session session_;
  ProcessGroup* group_ = nullptr;
  const char* what_ = "";
  WorkHook hook_;
  Each each_;
  Bad bad_;
  std::map<std::string, size_t> columns_;  // by output
  bool has_targets_ = false, regression_ = false;
};

// The indices of all examples, from the first to the last.
std::vector<size_t> InOrder(const BatchSource& data);

// Calls run(i, first, worker) for every part i of a batch, whose first example is `first`
// (ForEachRun). Of a group, each process does the parts that are its own, once all processes have
// come here.
void ForEachPart(Session& session, std::span<const Counts> parts,
                 const std::function<void(size_t i, int64_t first, int worker)>& run,
                 ProcessGroup* group = nullptr);
// Gives every process what each has computed in its parts: rows of `columns` numbers, one row for
// each sequence.
void ShareParts(std::span<const Counts> parts, ProcessGroup* group, size_t columns, float* rows);

// How many examples are read and computed between two waits for the data, in parts of this
// capacity. The number does not depend on the threads, and is small for large examples.
size_t ExamplesAtOnce(const BatchSource& data, const Counts& capacity);
// Bytes that Run holds of all examples at once. Correlations and precisions of targets want all of
// them in order: both sides, and the copies of one column. Other measures hold none.
size_t MeasuringBytes(const BatchSource& data);
// Bytes that the data hold during a Run with parts up to this capacity.
size_t InferenceBytes(const BatchSource& data, const Counts& capacity);

// ChooseCapacity and all threads, or what fits the memory budget ("" = no bound) beside
// `held_bytes`. What is left of the budget is given to the data.
SessionOptions InferenceOptions(const Graph& graph, ParamStore& params, const ModelConfig& config,
                                BatchSource& data, const std::string& memory_budget,
                                const PassOptions& passes, size_t held_bytes = 0);

}  // namespace graft
