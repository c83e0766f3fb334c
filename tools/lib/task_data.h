// Labelled examples as training and evaluation see them, whatever they are: a data set gives
// splits, a split gives batches, a batch is cut into micro-batches and written into a session's
// inputs.
//
//   const TaskDataset dataset(directory);
//   const auto data = dataset.Load("train", 0, model, config);
//   data->Start(order);                                   // an epoch: indices into the examples
//   while (data->remaining()) {
//     data->Take(std::min(batch, data->remaining()));     // the next examples are the batch
//     for (const Counts& part : data->Parts(capacity)) ...  data->Fill(session, first, n, worker);
//   }
#pragma once
#include <memory>
#include <variant>

#include "data/dataset.h"
#include "data/loader.h"
#include "data/text_loader.h"
#include "models/checkpoint.h"
#include "runtime/session.h"
#include "tools/lib/run_config.h"

namespace graft {

class TaskData {
 public:
  virtual ~TaskData() = default;
  virtual const char* unit() const = 0;  // "images", "texts"
  virtual size_t size() const = 0;       // examples
  virtual int label(size_t example) const = 0;
  // Tokens of an example; 0 where the model fixes its rows.
  virtual int64_t length(size_t example) const = 0;
  // Of the longest example.
  virtual int64_t longest() const = 0;

  // Begins an epoch; what an earlier one has left is dropped.
  virtual void Start(std::vector<size_t> order) = 0;
  virtual size_t remaining() const = 0;
  // The next `count` examples of the order become the batch. Throws Error for an unreadable file.
  virtual void Take(size_t count) = 0;

  // The batch in order, cut so that each part is within the capacity: a pure function of the
  // examples' sizes. REQUIRES: capacity.tokens >= longest().
  virtual std::vector<Counts> Parts(const Counts& capacity) const = 0;
  // Writes examples [first, first + count) of the batch into those inputs that the session has.
  // Threads may call it at once for different workers.
  virtual void Fill(Session& session, int64_t first, int64_t count, int worker) const = 0;
};

// Throws Error if the model reads images of other than three channels.
std::unique_ptr<TaskData> MakeImageData(std::span<const Example> examples,
                                        const Preprocess& preprocess, const VitConfig& config);
// Normalised images [n,C,H,W], `sample` floats each, without labels.
std::unique_ptr<TaskData> MakeArrayData(std::vector<float> values, size_t sample);
// config.max_length, or 128 and at most the model's positions if that is 0.
int64_t MaxLength(const RunConfig& config, const LoadedModel& model);
// What a text becomes: config.tokenizer (or the model's own), at most MaxLength tokens.
// Throws Error if the vocabulary does not fit the model's tables.
std::unique_ptr<TaskData> MakeTextData(std::span<const TextExample> examples,
                                       const LoadedModel& model, const RunConfig& config);
// Inputs without meaning, for a comparison of two graphs.
std::unique_ptr<TaskData> MakeRandomData(size_t n, const LoadedModel& model, uint64_t seed);

// Images or texts, whichever the directory holds.
class TaskDataset {
 public:
  // `columns`: of tables of texts, as ParseTextColumns.
  explicit TaskDataset(const std::string& directory, const std::string& columns = "");

  bool texts() const { return std::holds_alternative<TextDataset>(data_); }
  const std::string& directory() const;
  std::vector<std::string> split_names() const;
  std::string DefaultTrainSplit() const;
  std::string DefaultValidationSplit() const;
  std::string DefaultTestSplit() const;
  int64_t num_classes() const;
  // What a user should know of files that no split has, or "".
  std::string notice() const;
  // Class names, or "0", "1", ... where the data set names none.
  std::vector<std::string> labels() const;

  // Throws Error if validation examples are training examples too: any image, or a tenth of the
  // texts, as short ones occur twice by chance.
  void RefuseOverlap(const std::string& validation, const std::string& train, size_t limit) const;
  // The first `limit` examples (0: all). Throws Error for a model of another kind of input.
  std::unique_ptr<TaskData> Load(const std::string& split, size_t limit, const LoadedModel& model,
                                 const RunConfig& config) const;
  void CheckKind(const LoadedModel& model) const;
  // Throws Error for a split that is not there or, of texts, not in order; "" is no split.
  void CheckSplit(const std::string& name) const;

  // Lets labels be those of a model with these classes: equal names, in any order and case, give
  // equal numbers. Names that differ are an Error, but numbers instead of names fit any.
  void NumberClassesAs(const std::vector<std::string>& names, const std::string& model);

 private:
  std::variant<ImageDataset, TextDataset> data_;
  std::vector<int> numbers_;             // of each class, that of NumberClassesAs; empty: its own
  std::vector<std::string> renumbered_;  // the classes in that order
};

// Images that one Run handles, as below.
int64_t ChooseMicroBatch(const VitConfig& config, int64_t batch);
// The largest micro-batch that one Run handles. A pure function of the model and the batch: the
// order of sums, and so the bits of the results, depend on it. `longest`: tokens (0 for images);
// `wanted`: sequences, 0 = chosen.
Counts ChooseCapacity(const ModelConfig& model, int64_t longest, int64_t batch, int64_t wanted = 0);
// About half of it; the same if it is the smallest.
Counts SmallerCapacity(const Counts& capacity, int64_t longest);

}  // namespace graft
