#include "train/checkpoints.h"

#include <cmath>

#include "adapters/base_hash.h"

namespace graft {

void Checkpoints::BaseIsOpen() {
  base_.CheckNamed();
  if (dir_.config().base_sha256.empty())
    hash_ = std::async(std::launch::async, BaseHash, dir_.config().model);
}

void Checkpoints::SetNames(std::vector<std::string> trainable, std::vector<std::string> state) {
  trainable_ = std::move(trainable), state_ = std::move(state);
}

std::string Checkpoints::Kept() const {
  return (dir_.HasState() ? "the checkpoint before it is kept in "
                          : "no checkpoint had been saved in ") +
         dir_.path();
}

void Checkpoints::CheckBase() {
  const std::string what = base_.Changed(dir_.config().base_sha256);
  if (what.empty()) return;
  Fail("{}; the run ends, {}; hint: put the original file back, then graft train --resume {}", what,
       Kept(), ShellWord(dir_.path()));
}

// A checkpoint without its base's identity could be put on any base: so the identity comes first.
void Checkpoints::RecordBase() {
  CheckBase();
  if (!hash_.valid()) return;
  const std::string hash = hash_.get();
  base_.CheckNamed();  // the hash is of what the names lead to
  if (!hash.empty()) dir_.RecordBase(hash);
}

void Checkpoints::CheckFinite(const ParamStore& params, int64_t step, int64_t steps) {
  for (const std::string& name : trainable_)
    for (float x : params.values(name))
      if (!std::isfinite(x))
        StopNonFinite(
            fmt::format("'{}' is no longer finite after step {} of {}", name, step, steps));
}

void Checkpoints::StopNonFinite(const std::string& what, bool learned) {
  CheckBase();  // which may be why
  const std::string hint =
      learned ? "a smaller --lr, or --clip 1"
              : fmt::format("nothing had been learned yet, so weights of {} are damaged",
                            dir_.config().model);
  throw Error(fmt::format("{}; {}; hint: {}", what, Kept(), hint), ErrorKind::kNonFinite);
}

void Checkpoints::SaveBest(const ParamStore& weights) {
  RecordBase();
  dir_.SaveWeights("best", weights, trainable_);
}

// Weights first, state last: the state is what a resume believes.
void Checkpoints::SaveState(const ParamStore& weights, const ParamStore& state,
                            const Progress& progress, int64_t steps) {
  RecordBase();
  CheckFinite(weights, progress.step, steps);
  dir_.SaveWeights("last", weights, trainable_);
  dir_.SaveState(state, state_, progress);
}

}  // namespace graft
