// Labelled texts or pairs of texts on disk: DIR/<split>.tsv, .csv or .jsonl, every such file a
// split (train, dev, test and others), and DIR/labels.txt, which names class n in line n; or one
// such file alone.
//
// Without a header line a row is `text label` or `text second label`. The first line is a header if
// the caller names columns, if it has usual names of columns, or if the rest of the file tells so
// (text_table.h); JSON lines are objects with these names. A label is a class name or, if it is
// none, a class number.
#pragma once
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/holdout.h"

namespace graft {

// What a label is. kClass: one class of several. kNumbers: numbers, in one or several columns.
// kClasses: any number of classes at once.
enum class LabelKind { kClass, kNumbers, kClasses };

struct TextExample {
  std::string text;
  std::optional<std::string> second;  // of a pair, which may be empty
  int label = 0;                      // of a class
  std::vector<float> targets = {};  // of the other kinds: numbers, or 1 for each class that it has
  bool operator==(const TextExample&) const = default;
};

struct TextSplit {
  std::string name;
  std::vector<TextExample> examples;
};

// Names of columns, or their numbers from 1; "" means the usual names. A caller that names the
// first text also names the second one, if there is any. Labels of several columns are joined by
// '|'.
struct TextColumns {
  std::string text = "", second = "", label = "";
};

// Parses "TEXT,LABEL" or "TEXT,SECOND,LABEL"; "" gives the defaults. Throws Error for anything
// else.
TextColumns ParseTextColumns(const std::string& names);

struct LabelOptions {
  LabelKind kind = LabelKind::kClass;
  std::vector<std::string> classes = {};  // of kClasses: those that there are; else the data tell
};

class TextDataset {
 public:
  // Reads everything. Throws Error with file and line if no file is as above, or if the first split
  // is not and there is no labels.txt. What is wrong in other splits, or in single rows, is an
  // error only when these are loaded. With `skip_bad`, bad rows are left out instead.
  explicit TextDataset(const std::string& directory, const TextColumns& columns = {},
                       bool skip_bad = false, const LabelOptions& labels = {});

  const std::string& directory() const { return directory_; }
  std::vector<std::string> split_names() const;
  bool has_split(std::string_view name) const;
  bool pairs() const { return pairs_; }
  LabelKind kind() const { return kind_; }

  // The first `limit` examples (0: all of them). Throws Error if there is no such split, and for
  // what is wrong in it.
  TextSplit Load(std::string_view name, size_t limit = 0) const;

  // The first texts of a split, whatever is wrong with other rows.
  std::vector<std::string> FirstTexts(std::string_view name, size_t limit) const;

  // What is wrong in a split, row by row, each with PATH:LINE; of many problems the first ones, and
  // how many there are.
  struct Problems {
    std::vector<std::string> first;
    size_t count = 0;
  };
  Problems problems(std::string_view name) const;
  // What a user should know; with `all`, also what is no reason to worry.
  std::vector<std::string> Notes(bool all) const;

  // Takes a part of a split away, which becomes the split kHoldout (holdout.h). Equal texts stay
  // together. Throws Error if the split is not there or not in order.
  void HoldOut(const std::string& split, double share, uint64_t seed);

  // The names of the columns by which the first table is read, as ParseTextColumns takes them; ""
  // if it has no header, or names that cannot be written so.
  const std::string& read_columns() const { return read_columns_; }

  // The lines of labels.txt; without it the sorted labels of the first split, or nothing if all
  // labels are numbers. For kNumbers the names of the columns.
  const std::vector<std::string>& class_names() const { return class_names_; }
  int num_classes() const { return num_classes_; }

  std::string DefaultTrainSplit() const;  // as DefaultTrain and its like (splits.h)
  std::string DefaultValidationSplit() const;
  std::string DefaultEvalSplit() const;

 private:
  size_t Find(std::string_view name) const;
  void RefuseErrors(size_t split) const;

  std::string directory_;
  LabelKind kind_ = LabelKind::kClass;
  bool skip_bad_ = false;
  std::vector<TextSplit> splits_;
  std::vector<std::string> errors_;              // of each split as a whole, "" if there is none
  std::vector<Problems> problems_;               // of each split
  std::map<std::string, std::string> left_out_;  // why, by the name of the split
  std::vector<std::string> notes_;
  std::vector<std::string> class_names_;
  std::string read_columns_;
  int num_classes_ = 0;
  bool pairs_ = false;
};

// The kind of a data set's labels, if nothing else can be meant: arrays of texts are classes, and
// arrays of numbers that are not all whole are numbers. Throws Error (kUsage) for arrays of whole
// numbers, which may be either. Data that cannot be read count as kClass: reading them says why.
LabelKind TellLabelKind(const std::string& directory, const TextColumns& columns);

// Whether a path is a TextDataset's: a table, or a directory that holds a table of a usual split
// or, if there are no folders, any table. A table beside folders of images describes these.
bool HoldsTexts(const std::string& directory);

// The path of a file that would make the directory a TextDataset if its format were known, such as
// train.json or dev.parquet; else "".
std::string NearlyTexts(const std::string& directory);

// Throws Error for a file that is no table, and says what would make it one.
[[noreturn]] void RefuseFile(const std::string& path);

// The labels by which an example is divided, where it may have several.
std::optional<std::vector<int>> LabelsToDivide(const std::vector<float>& targets, LabelKind kind);

// The examples to divide, with equal texts as one group.
std::vector<ToDivide> GroupsOf(const std::vector<TextExample>& examples,
                               LabelKind kind = LabelKind::kClass);

// Splits that share fewer than one text in so many share them by chance, as short texts occur
// twice.
inline constexpr size_t kTextsByChance = 10;

// The examples of `a` whose texts `b` contains, too. Short texts may well be in both.
std::vector<TextExample> Overlap(const TextSplit& a, const TextSplit& b);

}  // namespace graft
