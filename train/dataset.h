// A directory of labelled images or texts, whichever it holds, or of plain texts.
#pragma once
#include <variant>

#include "adapters/open_model.h"
#include "data/corpus.h"
#include "data/dataset.h"
#include "data/text.h"
#include "train/batches.h"

namespace graft {

class Dataset {
 public:
  // `columns`: of tables of texts, as ParseTextColumns. With an objective (facts.h) the texts are
  // plain ones without labels.
  explicit Dataset(const std::string& directory, const std::string& columns = "",
                   const std::string& objective = "");

  bool texts() const { return !std::holds_alternative<ImageDataset>(data_); }
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
  std::unique_ptr<BatchSource> Load(const std::string& split, size_t limit,
                                    const LoadedModel& model, const AdapterFacts& facts) const;
  // What the examples of Load are called: paths of images; texts, with a tab between two.
  std::vector<std::string> ExampleNames(const std::string& split, size_t limit) const;
  void CheckKind(const LoadedModel& model) const;
  // Throws Error for a split that is not there or, of texts, not in order; "" is no split.
  void CheckSplit(const std::string& name) const;

  // Lets labels be those of a model with these classes (none: it has no names), which are matched
  // as MatchClasses does. Names that contradict each other are an Error.
  void NumberClassesAs(const std::vector<std::string>& names, const std::string& model);

 private:
  std::variant<ImageDataset, TextDataset, Corpus> data_;
  std::vector<int> numbers_;             // of each class, that of NumberClassesAs; empty: its own
  std::vector<std::string> renumbered_;  // the classes in that order
};

// Refuses data with other classes than the model has, naming both, and lets its labels be the
// model's where the order differs.
void CheckClasses(const OpenedModel& opened, Dataset* data);

}  // namespace graft
