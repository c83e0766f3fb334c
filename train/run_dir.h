// The files of a run directory; see docs/cli.md. Everything is written atomically, so a run that is
// killed at any instant leaves the last complete state. A run that trains writes into the directory
// that it has locked, wherever that is moved, and into no other that gets its name.
#pragma once
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "adapters/open_model.h"
#include "runtime/io/directory.h"
#include "train/run_config.h"

namespace graft {

// Where a run stands. Random streams are functions of the step, so this is all there is.
struct Progress {
  int64_t step = 0;  // optimizer steps done; epoch and position follow from it
  // The best value of --best-metric so far. Larger is better, so a loss has its sign changed.
  double best_metric = std::numeric_limits<double>::lowest();
  int64_t best_epoch = 0;  // from 1; 0 = none yet
  int64_t epochs = 0;      // those of the run when this was saved; 0 = it does not say
  // The sum of the losses of the epoch in progress, each weighted by its share of a full batch.
  double epoch_loss_sum = 0;
  double seconds = 0;    // of training, over all sessions
  double last_loss = 0;  // mean over the examples of the last epoch
  double val_accuracy = -1;
  bool finished = false;
};

class RunDir {
 public:
  // Creates the directory and locks it. Throws Error if it exists and is not empty, or if another
  // process is about to train there.
  static RunDir Create(const std::string& path, const RunConfig& config);
  // Opens a run. Throws Error if there is no config.json, or if it is a search that has not ended
  // and so is no run yet.
  static RunDir Open(const std::string& path);
  // Opens a run that a search makes, whether it has ended or not.
  static RunDir OpenSearch(const std::string& path);
  // Opens a run that another process of a group trains or searches and writes (process_group.h).
  // This process reads it, and leaves out whatever it would write. `resumed` says whether the other
  // one has opened it.
  static RunDir Follow(const std::string& path, bool resumed);
  // Locks the directory for training, which comes before anything is written; throws Error if
  // another process trains there.
  void Lock();

  const std::string& path() const { return path_; }
  bool resumed() const { return resumed_; }  // opened, not created
  const RunConfig& config() const { return config_; }
  // Rewrite config.json with a hash that is known only after the run has started: that of the base,
  // and that of the examples.
  void RecordBase(const std::string& sha256);
  void RecordExamples(const std::string& sha256, const std::string& contents);
  // Makes what a search has found (search/) the run's method from here on.
  void RecordMethod(const std::string& method);
  // Changes the number of epochs; the warm-up stays that of the number before.
  void RecordEpochs(int64_t epochs);
  std::string file(const std::string& name) const { return path_ + "/" + name; }
  void Write(const std::string& name, const std::string& text) const;

  // Writes the named entries (trainable and optimizer state) and the progress to state.safetensors.
  // Throws Error, once it is written, if path() no longer leads to this directory.
  void SaveState(const ParamStore& params, const std::vector<std::string>& names,
                 const Progress& progress) const;
  bool HasState() const;
  // Removes what Create has made, unless something has been saved.
  void RemoveIfNothingSaved();
  // Puts the entries of the state into `params` and returns their names; nothing if there is no
  // state yet.
  std::optional<std::vector<std::string>> LoadState(ParamStore& params, Progress& progress) const;

  // Writes last.safetensors or best.safetensors: trainable tensors only, so that equal runs give
  // equal bytes.
  void SaveWeights(const std::string& which, const ParamStore& params,
                   const std::vector<std::string>& names, StringMap more = {}) const;

  // Appends one line, a JSON object, to metrics.jsonl, and its numbers to the events file
  // (event_file.h).
  void AppendMetrics(const std::string& line) const;
  // Drops lines after `step`, which a killed session wrote and this one will write again, and makes
  // the events file of what is left.
  void TruncateMetrics(int64_t step) const;

 private:
  RunDir(std::string path, RunConfig config, bool resumed)
      : path_(std::move(path)), config_(std::move(config)), resumed_(resumed) {}
  FilePlace Place(const std::string& name) const;
  void CheckNamed() const;
  void CheckNotRemoved() const;
  void WriteConfig() const;
  // `start` comes before the text in a file that is empty or not there.
  void Append(const std::string& name, std::string_view start, std::string text) const;
  std::string path_;
  RunConfig config_;
  bool resumed_, existed_ = true;  // existed_: before Create
  bool follows_ = false;
  std::shared_ptr<const Directory> locked_;
};

// The configuration of the run that a choice of --run or --adapter names; nothing for other models.
std::optional<RunConfig> RunOf(const ModelChoice& choice);

}  // namespace graft
