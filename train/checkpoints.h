// What a run saves, once it is known to be worth it: its base is the one that it began with, and
// its weights are numbers.
#pragma once
#include <future>

#include "adapters/base_watch.h"
#include "train/run_dir.h"

namespace graft {

class Checkpoints {
 public:
  // Watches the base of the run from here on; it must not be open yet.
  explicit Checkpoints(RunDir& dir) : dir_(dir), base_(dir.config().model) {}

  // Tells that the base is open. If the run does not have its hash yet, that is computed beside the
  // first steps.
  void BaseIsOpen();
  // Names the tensors of a store that train, and those that a resume needs.
  void SetNames(std::vector<std::string> trainable, std::vector<std::string> state);
  const std::vector<std::string>& trainable() const { return trainable_; }
  const std::vector<std::string>& state() const { return state_; }

  // Throws Error unless the base is what it was: weights that were trained on others are nothing to
  // save, nor to measure.
  void CheckBase();
  // Throws Error of kind kNonFinite unless all that trains is finite. The loss alone would not
  // tell, as it shows only what the step before it made.
  void CheckFinite(const ParamStore& params, int64_t step, int64_t steps);
  // `learned`: whether a step may be why; before the first one it is the model.
  [[noreturn]] void StopNonFinite(const std::string& what, bool learned = true);

  // Each of these checks the base first. SaveBest writes best.safetensors; SaveState writes
  // last.safetensors with `weights` and the state with those of `state`, which differ in what only
  // the run knows.
  void SaveBest(const ParamStore& weights);
  void SaveState(const ParamStore& weights, const ParamStore& state, const Progress& progress,
                 int64_t steps);

 private:
  void RecordBase();
  std::string Kept() const;

  RunDir& dir_;
  BaseWatch base_;
  std::future<std::string> hash_;
  std::vector<std::string> trainable_, state_;
};

}  // namespace graft
