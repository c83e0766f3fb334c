// --trace DIR: what a replay in another framework needs (docs/cli.md).
#pragma once
#include "runtime/graph.h"
#include "runtime/io/npy.h"
#include "tools/lib/task_data.h"

namespace graft {

class Trace {
 public:
  // Writes init.safetensors: every parameter of the graph as it starts. A trace covers whole runs,
  // so a resumed one (`first_step` > 0) is an Error.
  static std::unique_ptr<Trace> Begin(const RunConfig& config, const Graph& g, ParamStore& params,
                                      const TaskData& data, int64_t first_step);
  ~Trace();
  // Row order of the step (indices into the training list), loss, learning rate; dropout masks of
  // the data's batch.
  void Step(int64_t step, std::span<const size_t> rows, double loss, double learning_rate,
            const TaskData& data);
  // final.safetensors: the trainable tensors.
  void Finish(const ParamStore& params, const std::vector<std::string>& trainable);

 private:
  struct Masks;
  explicit Trace(const std::string& dir);
  std::string dir_;
  NpzWriter batches_;
  std::unique_ptr<Masks> masks_;
  std::string losses_;
};

}  // namespace graft
