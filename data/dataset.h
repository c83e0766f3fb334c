// Labelled images on disk: VTAB-1k lists, or one folder per class. Opening reads the lists and the
// folders' names, never an image.
//
// Lists: DIR/train800.txt, val200.txt, train800val200.txt, test.txt and any other DIR/*.txt of the
// same form; a line is `path label`, the path relative to DIR and split off at the last blank, so
// it may hold blanks itself. classes.txt, if there, names class n in line n.
//
// Folders: DIR/<split>/<class>/**, or DIR/<class>/** which is one split, "train". Class numbers
// follow the sorted names of the class folders, as in torchvision's ImageFolder.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace graft {

struct Example {
  std::string path;  // as the program can open it: DIR is part of it
  int label = 0;
  bool operator==(const Example&) const = default;
};

struct Split {
  std::string name;
  std::vector<Example> examples;
};

enum class DatasetForm { kLists, kFolders };

class ImageDataset {
 public:
  // Throws Error if DIR holds neither form, or a list or label in it is wrong.
  explicit ImageDataset(const std::string& directory);

  const std::string& directory() const { return directory_; }
  DatasetForm form() const { return form_; }
  const std::vector<Split>& splits() const { return splits_; }
  std::vector<std::string> split_names() const;

  // The first `limit` examples of a list (0: all of them). In folders, where the order is
  // that of the classes, `limit` examples at even distances. Throws Error if there is no such split
  // or one of the files does not exist.
  Split Load(std::string_view name, size_t limit = 0) const;

  // Empty if the lists come without classes.txt.
  const std::vector<std::string>& class_names() const { return class_names_; }
  // Lines of classes.txt or class folders; without either, the largest label of all lists plus one.
  int num_classes() const { return num_classes_; }

  // Images in class folders whose format is not read (.webp, .bmp and the like).
  const std::vector<std::string>& left_out() const { return left_out_; }

  // The usual split of this purpose if it exists, else "": train800 or train; val200, val, valid or
  // validation; test, else a validation split.
  std::string DefaultTrainSplit() const;
  std::string DefaultValidationSplit() const;
  std::string DefaultTestSplit() const;

 private:
  void OpenLists(const std::vector<std::string>& files);
  void OpenFolders();

  std::string directory_;
  DatasetForm form_ = DatasetForm::kLists;
  std::vector<Split> splits_;
  std::vector<std::string> class_names_, left_out_;
  int num_classes_ = 0;
};

// Paths that both splits contain, in the order of `a`. Paths are compared after resolving "." and
// ".."; equal images under two names are CheckDataset's business.
std::vector<std::string> Overlap(const Split& a, const Split& b);

}  // namespace graft
