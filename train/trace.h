// --trace DIR: what a replay in another framework needs (docs/cli.md).
#pragma once
#include "runtime/graph.h"
#include "runtime/io/npy.h"
#include "train/batches.h"
#include "train/run_config.h"

namespace graft {

class Trace {
 public:
  // Writes init.safetensors: every parameter of the graph as it starts. What a trace of this
  // run that did not come to a checkpoint (`again`) has left is replaced. The directory is held
  // open: the files go there wherever it is moved.
  static std::unique_ptr<Trace> Begin(const RunConfig& config, const Graph& g, ParamStore& params,
                                      const BatchSource& data, bool again);
  ~Trace();
  // Whether Step reads the batch of `data`.
  bool draws_masks() const { return masks_ != nullptr; }
  // Writes the row order of the step (indices into the training list), its loss and learning rate,
  // and the dropout masks of the data's batch.
  void Step(int64_t step, std::span<const size_t> rows, double loss, double learning_rate,
            const BatchSource& data);
  // Writes final.safetensors: the trainable tensors.
  void Finish(const ParamStore& params, const std::vector<std::string>& trainable);

 private:
  struct Masks;
  explicit Trace(const std::string& dir);
  std::shared_ptr<const Directory> dir_;
  NpzWriter batches_;
  std::unique_ptr<Masks> masks_;
  std::string losses_;
};

}  // namespace graft
