// Writes data sets as files that ImageDataset and TextDataset read: lists of images, which stay
// where they are, and tables of texts.
#pragma once
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/text.h"

namespace graft {

// Writes DIR/<split>.txt with lines `path label`, where paths are absolute, and DIR/classes.txt if
// the classes have names. The directory must exist. Throws Error for a path or name that no line
// can hold.
void WriteImageLists(const std::string& directory, const std::vector<std::string>& class_names,
                     const std::vector<Split>& splits);

// Writes DIR/<split>.csv with the columns text, (second,) label, and DIR/labels.txt if the classes
// have names. Several classes of a text are joined by '|'; numbers have a column for each name.
// Throws Error for names that this cannot hold.
void WriteTextTables(const std::string& directory, const std::vector<std::string>& class_names,
                     const std::vector<TextSplit>& splits, LabelKind kind = LabelKind::kClass);

}  // namespace graft
