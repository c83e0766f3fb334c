// Where the images are that a table names. Programs that write such tables leave out what they take
// for granted: the folder of the images, the endings of their names.
#pragma once
#include <string>

#include "data/text.h"

namespace graft {

struct ImagePlaces {
  std::string root;          // the folder of the table
  std::string folder;        // below it, where the images are; "" = names are relative to `root`
  std::string extension;     // what the names lack at their end, ".jpg"
  bool backslashes = false;  // stand in names where folders end
  size_t looked = 0, found = 0;  // names that were looked for; images that were there

  std::string Path(const std::string& name) const;
  // How names were read if that is not plain, else "".
  std::string Note() const;
};

// Looks for the first images of a split: as they are named, then in the folder below that has the
// split's name, in `images`, and in every other one; each as it is and, if names have no ending,
// with those of images. What most of them are found by counts for all.
ImagePlaces PlacesOfImages(const TextDataset& tables, const std::string& split);
// The same of a table by itself, whose first names these are; more are not looked for.
ImagePlaces PlacesOfImages(const std::string& table, std::vector<std::string> names);

// Whether most of the first texts of a data set name images: they end as such, or would with an
// ending and are there. The others are then images that cannot be read.
bool NamesImages(const TextDataset& data);

// labels.csv, .tsv or .jsonl in a folder, or "".
std::string LabelsTable(const std::string& directory);

}  // namespace graft
