// What `graft predict` classifies: images, arrays and texts, from files, folders, patterns and
// tables.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "adapters/open_model.h"
#include "tools/lib/options.h"
#include "train/batches.h"

namespace graft {

struct PredictInput {
  std::string input;  // the path of an image, with [i] of one in an array; or the text
  std::string file;   // of a text that is from a file
  int64_t row = 0;    // in that file, from 1, without a header
  std::string error;  // why it cannot be read, or ""
};

struct PredictInputs {
  std::vector<PredictInput> examples;  // in the order of the command line
  // The groups of data; and for each example the group that has it, in order, or kNone if it has an
  // error.
  std::vector<std::unique_ptr<BatchSource>> data;
  std::vector<size_t> group;
  static constexpr size_t kNone = SIZE_MAX;

  void Add(PredictInput example, size_t of_group) {
    examples.push_back(std::move(example)), group.push_back(of_group);
  }
  size_t failed() const;             // examples in error
  const std::string& first() const;  // what is wrong with the first of them
};

// Expands the words of a command line to files of the kind that the model reads: a folder gives
// those in it at any depth, and a word with * ? or [ that is no file gives those that match it,
// both in the order of their names. Hidden files are left out, and with a note images that cannot
// be read. Throws Error for a word that gives nothing.
std::vector<std::string> ExpandInputs(const std::vector<std::string>& words, bool images,
                                      std::vector<std::string>* notes);

// Whether a path is that of a table, by its ending.
bool NamesTable(const std::string& path);

// Opens images. A file that cannot be read is an example with an error. A .csv, .tsv or .jsonl file
// gives the images that its rows name (data/image_places.h), by the column `columns` or, where the
// file has it, that of the run, `usual`.
PredictInputs OpenImages(const std::vector<std::string>& files, const std::string& columns,
                         const std::string& usual, const OpenedModel& opened,
                         std::vector<std::string>* notes);

// Opens texts: those of --text, then those of files. A .csv, .tsv or .jsonl file gives its column
// or columns of texts: `columns` as in training or, where the file has them, those of the run,
// `usual`. A column of labels is not read and may be missing. Other files have a text in each line,
// where a tab separates the two of a pair. `notes` get what the user should know.
PredictInputs OpenTexts(const std::vector<std::string>& texts,
                        const std::vector<std::string>& files, const std::string& columns,
                        const std::string& usual, const OpenedModel& opened,
                        std::vector<std::string>* notes);

}  // namespace graft
