// Labelled images on disk: VTAB-1k lists, or one folder per class. Opening reads the lists and the
// folders' names, never an image.
//
// Lists: DIR/train800.txt, val200.txt, train800val200.txt, test.txt and any other DIR/*.txt of the
// same form; a line is `path label`, the path relative to DIR and split off at the last blank, so
// it may hold blanks itself. classes.txt, if there, names class n in line n.
//
// Tables: DIR/train.csv and the like, or one such file, as those of texts (text.h), with the name
// of an image in the place of the text; image_places.h says where it is. They alone can hold other
// labels than a class.
//
// Folders: DIR/<split>/<class>/**, or DIR/<class>/** which is one split, "train". Class numbers
// follow the sorted names of the class folders, as in torchvision's ImageFolder; image_folders.h
// has the rules.
#pragma once
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/text.h"

namespace graft {

struct Example {
  std::string path;  // as the program can open it: DIR is part of it
  int label = 0;
  std::vector<float> targets = {};  // as those of TextExample
  bool operator==(const Example&) const = default;
};

struct Split {
  std::string name;
  std::vector<Example> examples;
};

enum class DatasetForm { kLists, kFolders, kTables };

class ImageDataset {
 public:
  // Throws Error if DIR holds neither form, or if a list or label in it is wrong. With `problems`,
  // wrong lines and folders are reported there instead and left out.
  explicit ImageDataset(const std::string& directory, std::vector<std::string>* problems = nullptr);

  // Takes tables for which NamesImages is true. A split that is not in order is left out, with a
  // note.
  explicit ImageDataset(const TextDataset& tables);

  const std::string& directory() const { return directory_; }
  LabelKind kind() const { return kind_; }
  DatasetForm form() const { return form_; }
  const std::vector<Split>& splits() const { return splits_; }
  std::vector<std::string> split_names() const;

  // The first `limit` examples of a list (0: all of them). In folders, where the order is
  // that of the classes, `limit` examples at even distances. Throws Error if there is no such split
  // or, unless AllowMissing, one of the files does not exist.
  Split Load(std::string_view name, size_t limit = 0) const;

  // Empty if lists come without a classes.txt.
  const std::vector<std::string>& class_names() const { return class_names_; }
  const std::string& read_columns() const { return read_columns_; }  // of tables, as TextDataset's
  // The number of lines of classes.txt or of class folders; without either, the largest label of
  // all lists plus one.
  int num_classes() const { return num_classes_; }

  void AllowMissing() { missing_allowed_ = true; }
  // Removes these examples from a split. Throws Error if none is left.
  void LeaveOut(std::string_view split, const std::set<std::string>& paths);
  // Takes a part of a split away, which becomes the split kHoldout (holdout.h). Throws Error if
  // the split is not there.
  void HoldOut(const std::string& split, double share, uint64_t seed);

  // What a user should know; with `all`, also what is no reason to worry.
  std::vector<std::string> Notes(bool all) const;
  // Images in class folders whose format is not read (.heic, .avif and the like).
  const std::vector<std::string>& left_out() const { return left_out_; }

  std::string DefaultTrainSplit() const;  // as DefaultTrain and its like (splits.h)
  std::string DefaultValidationSplit() const;
  std::string DefaultEvalSplit() const;

 private:
  void OpenLists(const std::vector<std::string>& files, std::vector<std::string>* problems);
  size_t Find(std::string_view name) const;

  std::string directory_;
  DatasetForm form_ = DatasetForm::kLists;
  LabelKind kind_ = LabelKind::kClass;
  std::vector<Split> splits_;
  std::vector<std::string> class_names_, left_out_, notes_;
  std::string read_columns_;
  bool missing_allowed_ = false;
  int num_classes_ = 0;
};

// The examples to divide; a path that stands in a list twice is one group.
std::vector<ToDivide> GroupsOf(const std::vector<Example>& examples, LabelKind kind);

// The place of the classes of examples: labels.csv, .tsv or .jsonl in a folder that holds neither
// lists nor class folders, of which there would be two at least; else the data set itself.
std::string ClassesOf(const std::string& directory);

// The paths that both splits contain, in the order of `a`. Paths are compared after resolving "."
// and ".."; equal images under two names are found by CheckDataset.
std::vector<std::string> Overlap(const Split& a, const Split& b);
// The names of files below the deepest folder that holds all of them.
std::vector<std::string> NamesBelowCommonFolder(std::span<const std::string> paths);

}  // namespace graft
