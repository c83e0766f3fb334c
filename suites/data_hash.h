// Tells whether two data sets are the same one, without reading a picture.
#pragma once
#include <string>

namespace graft {

// The SHA-256 of the names of the classes and of the examples of a split in their order: of an
// image its path below the directory that all images of the split have in common, its label and
// size in bytes; of a text its words and label. So a unit keeps its identity when the data are
// moved, and loses it when an example is added, taken away or relabelled. A picture that is
// replaced by another one of the same name and size is not noticed.
// `columns` are those of texts, as for ParseTextColumns. Throws Error for a split that is not
// there, and for one that names a missing file.
std::string HashOfData(const std::string& directory, const std::string& split,
                       const std::string& columns = "", bool skip_bad = false);

}  // namespace graft
