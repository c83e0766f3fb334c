// A directory or table of labelled images or texts, whichever it holds, or of plain texts.
#pragma once
#include <set>
#include <variant>

#include "adapters/open_model.h"
#include "data/check.h"
#include "data/dataset.h"
#include "data/sentence_tasks.h"
#include "data/text.h"
#include "train/batches.h"
#include "train/run_config.h"

namespace graft {

struct DataOptions {
  std::string columns;           // of tables of texts, as ParseTextColumns
  std::string objective;         // as in facts.h: "" = labels, else plain texts
  bool skip_bad = false;         // leave out what cannot be read: rows of tables, image files
  std::string task = kClassify;  // models/task.h
  std::vector<std::string> classes = {};  // of several at once those that there are, if known
};

// What the labels of a task (models/task.h) are.
LabelKind KindOf(const std::string& task);

// The place of a task's targets: the data set itself where it is a table or has tables that are
// splits, else labels.csv, .tsv or .jsonl in it, which of classes gives way to lists and class
// folders. Throws Error where there are none.
std::string TablesOf(const std::string& directory, const std::string& task);

// An image file or a row of a table that was left out.
struct Skipped {
  std::string path, reason;  // path: PATH:LINE of a row
};

class Dataset {
 public:
  explicit Dataset(const std::string& directory, const DataOptions& options = {});
  // Opens the data set of a run, with its holdout.
  explicit Dataset(const RunConfig& config);

  bool texts() const { return !std::holds_alternative<ImageDataset>(data_); }
  const std::string& directory() const;
  std::vector<std::string> split_names() const;
  std::string DefaultTrainSplit() const;
  std::string DefaultValidationSplit() const;
  std::string DefaultEvalSplit() const;
  // The names of the columns by which a table is read (TextDataset::read_columns), else "".
  std::string ReadColumns() const;
  std::string TextForm() const;  // of labelled texts as AdapterFacts::texts, else ""
  int64_t num_classes() const;
  bool names_classes() const;                   // and does not only number them
  size_t Size(const std::string& split) const;  // examples; Error as Load
  // What a user should know, a line each: headers that were told from the data, classes without
  // examples, files that no split has.
  std::vector<std::string> notices() const;
  // Files and rows that Load has left out so far.
  const std::vector<Skipped>& skipped() const { return skipped_; }

  // Takes a stratified part of a split away, which becomes the split "holdout" (data/holdout.h).
  void HoldOut(const std::string& split, double share, int64_t seed);
  LabelKind kind() const { return kind_; }
  // Sets a function that is told how far Load is: with skip_bad it may take long.
  void OnProgress(CheckProgress progress) { progress_ = std::move(progress); }
  // Throws Error if all examples of a split have one class, the same numbers, or no label.
  void RefuseOneClass(const std::string& split) const;
  // Class names, or "0", "1", ... where the data set names none.
  std::vector<std::string> labels() const;

  // Says that examples of a split are training examples too, of this data set or of `trained`: any
  // image, or a tenth of the texts, as short ones occur twice by chance; "" if it is not so.
  std::string OverlapText(const std::string& held, const std::string& train, size_t limit,
                          const Dataset* trained = nullptr) const;
  // Throws Error for such a validation split.
  void RefuseOverlap(const std::string& validation, const std::string& train, size_t limit) const;
  // Opens the first `limit` examples (0: all). Throws Error for a model of another kind of input.
  // With skip_bad every image of the split is decoded once, to see whether it can be.
  std::unique_ptr<BatchSource> Load(const std::string& split, size_t limit,
                                    const LoadedModel& model, const AdapterFacts& facts);
  // The names of the examples of Load: paths of images; texts, with a tab between two.
  std::vector<std::string> ExampleNames(const std::string& split, size_t limit) const;
  void CheckKind(const LoadedModel& model) const;
  // Throws Error for a split that is not there or, of texts, not in order; "" is no split.
  void CheckSplit(const std::string& name) const;

  // Gives labels the numbers that a model has for its classes, which are matched as MatchClasses
  // does; a model without names has none to match. Throws Error for names that contradict each
  // other. Numbers keep their order.
  void NumberClassesAs(const std::vector<std::string>& names, const std::string& model);
  // Does so for data in which only some of a model's classes occur (MatchSomeClasses), or returns
  // false.
  bool TakeClassesOf(const std::vector<std::string>& names);

 private:
  void SkipBad(const std::string& split);
  void SetNumbers(const std::vector<int64_t>& numbers);
  std::vector<int> LabelsIn(const std::string& split) const;  // of each example

  template <class AnyExample>
  void Renumber(AnyExample* example) const;
  template <class Each>
  void ForTargets(const std::string& split, const Each& each) const;

  LabelKind kind_ = LabelKind::kClass;
  std::variant<ImageDataset, TextDataset, Corpus, SentenceTask> data_;
  bool skip_bad_ = false;
  CheckProgress progress_;
  std::vector<Skipped> skipped_;
  std::set<std::string> looked_through_;  // splits, by SkipBad
  std::vector<int> numbers_;              // of each class, that of NumberClassesAs; empty: its own
  std::vector<std::string> renumbered_;   // the classes in that order
};

// Refuses data with other classes than the model has, naming both, and lets its labels be the
// model's where the order differs.
void CheckClasses(const OpenedModel& opened, Dataset* data);

}  // namespace graft
