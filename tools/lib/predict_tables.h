// Reads texts from files, without labels.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace graft {

struct TextRow {
  std::string text;
  std::optional<std::string> second;  // of a pair
  std::string shown;                  // the text, and behind a tab the second one
  int64_t number = 0;                 // in the file, from 1
  std::string error;                  // PATH:LINE: why it cannot be read, or ""
};

struct TextRows {
  std::vector<TextRow> rows;
  bool table = false;          // .csv, .tsv, .jsonl
  bool unnamed_pairs = false;  // the second text is what stands in the second column
  bool commas = false;         // of a CSV of one column belong to the texts
};

// Parses a text, or two with a tab between them; errors begin with `where`.
TextRow ParseTextLine(const std::string& line, const std::string& where);

// Reads the rows of a file; its ending tells the format. Of a table it reads the columns that are
// named ("TEXT", "TEXT,LABEL", "TEXT,SECOND,LABEL": names, or numbers from 1), else those with the
// usual names in its first line, else the first column, and of two or three columns also the
// second. `usual` are columns that are taken if they are there. Throws Error for a file that is
// none of these.
TextRows ReadTextRows(const std::string& path, const std::string& columns,
                      const std::string& usual = "");

// Reads the names of images in a table in the same way, where the usual names are those of columns
// of files. What stands in a second column is not read.
TextRows ReadImageRows(const std::string& path, const std::string& columns,
                       const std::string& usual = "");

}  // namespace graft
