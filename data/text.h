// Labelled texts or pairs of texts on disk: DIR/<split>.tsv, .csv or .jsonl, every such file a
// split (train, dev, test and others), and DIR/labels.txt, which names class n in line n.
//
// Without a header line a row is `text label` or `text second label`. The first line is a header if
// the caller names columns, or if it has a field "label" that is no class. JSON lines are objects
// with these names. A label is a class name or, if it is none, a class number.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace graft {

struct TextExample {
  std::string text;
  std::optional<std::string> second;  // of a pair, which may be empty
  int label = 0;
  bool operator==(const TextExample&) const = default;
};

struct TextSplit {
  std::string name;
  std::vector<TextExample> examples;
};

// Names of columns; "" for the default: text, sentence, text1 or sentence1; second, text2 or
// sentence2; label. A caller that names the first text names the second one too, if there is any.
struct TextColumns {
  std::string text = "", second = "", label = "";
};

// "TEXT,LABEL" or "TEXT,SECOND,LABEL"; "" = the defaults. Throws Error for anything else.
TextColumns ParseTextColumns(const std::string& names);

class TextDataset {
 public:
  // Reads everything. Throws Error with file and line if no file is as above, or if the first split
  // is not and there is no labels.txt; what is wrong in other splits is the error of loading these.
  explicit TextDataset(const std::string& directory, const TextColumns& columns = {});

  const std::string& directory() const { return directory_; }
  std::vector<std::string> split_names() const;
  bool has_split(std::string_view name) const;
  bool pairs() const { return pairs_; }

  // The first `limit` examples (0: all of them). Throws Error if there is no such split, or for
  // what is wrong in it.
  TextSplit Load(std::string_view name, size_t limit = 0) const;

  // Lines of labels.txt; without it the sorted labels of the first split, or nothing if all labels
  // are numbers.
  const std::vector<std::string>& class_names() const { return class_names_; }
  int num_classes() const { return num_classes_; }

  // The usual split of this purpose if it exists, else "": train; dev, val, valid or validation;
  // test, else a validation split.
  std::string DefaultTrainSplit() const;
  std::string DefaultValidationSplit() const;
  std::string DefaultTestSplit() const;

 private:
  std::string directory_;
  std::vector<TextSplit> splits_;
  std::vector<std::string> errors_;  // of each split, "" if it is in order
  std::vector<std::string> class_names_;
  int num_classes_ = 0;
  bool pairs_ = false;
};

// Whether a directory is a TextDataset's: it holds a file of a usual split, or else any table and
// no folder, for a table beside folders of images describes these.
bool HoldsTexts(const std::string& directory);

// The path of a file that would make it one if its format were known: train.json, dev.TSV; else "".
std::string NearlyTexts(const std::string& directory);

// Splits that share fewer than one text in so many do it by chance: short texts occur twice.
inline constexpr size_t kTextsByChance = 10;

// The examples of `a` whose texts `b` contains too. Short texts may well be in both.
std::vector<TextExample> Overlap(const TextSplit& a, const TextSplit& b);

}  // namespace graft
