// Texts of files, without labels.
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
};

// A text, or two with a tab between them; `where` begins the error.
TextRow ParseTextLine(const std::string& line, const std::string& where);

// The rows of a file, by its ending; of a table those columns that are named ("TEXT", "TEXT,LABEL",
// "TEXT,SECOND,LABEL": names, or numbers from 1), else those of the usual names in its first line,
// else the first one, and the second one of two or three. `usual` are columns that are taken where
// they are there. Throws Error for a file that is none of these.
TextRows ReadTextRows(const std::string& path, const std::string& columns,
                      const std::string& usual = "");

}  // namespace graft
