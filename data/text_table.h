// Reads a file of labelled texts as rows. What is wrong in rows is collected, so that all of it can
// be reported at once.
#pragma once
#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "data/text_columns.h"
#include "data/text_rows.h"

namespace graft {

struct RawRow {
  std::array<std::string, 3> fields;  // of a table without places yet: its columns
  size_t line = 0;
};

// Rows that cannot be used; if there are many, only the first are kept.
struct RowProblems {
  std::vector<std::string> first;  // each begins with PATH:LINE
  size_t count = 0;
  void Add(std::string message);
};

// A column that nobody asked for and no usual name chose.
struct UnreadColumn {
  size_t column;
  std::string name;
  size_t texts = 0;  // rows in which it holds several words
};

struct RawTable {
  std::string name, path;
  std::vector<RawRow> rows;         // fields[i] is text, second text or label by `places`
  Places places;                    // of `fields`
  std::vector<std::string> header;  // names of all columns; empty if line 1 is an example
  RowProblems problems;
  std::string error;                          // why there are no rows
  std::vector<std::string> label_names = {};  // of the columns of the label; none without a header
  // Of the columns of the text and the second one; "" without a header.
  std::string text_name = "", second_name = "";
  std::vector<std::string> first_line = {};  // its fields; of JSON lines the keys of the first
  std::vector<UnreadColumn> unread = {};
  bool open = false;  // whether line 1 is a header is not known yet: it is rows[0]
  size_t columns = 0;

  bool pairs() const { return places.pairs(); }
};

// What is wrong with a row that equals the header, as where tables were put together.
inline constexpr const char* kNamesAgain =
    "names the columns again; hint: --skip-bad leaves such rows out";

// Reads the tables of a data set, each of which is a split, within the bounds of a data set.
std::vector<RawTable> ReadTables(const std::vector<std::filesystem::path>& paths,
                                 const TextColumns& columns,
                                 const std::vector<std::string>& classes,
                                 LabelKind kind = LabelKind::kClass);

// Decides by what open tables hold which of them begin with a header, and refuses (in `error`) what
// only a person can tell: a class that occurs only in line 1, and labels that seem to stand first.
// Returns what the user should know of it.
std::vector<std::string> DecideHeaders(std::vector<RawTable>& tables, const TextColumns& columns,
                                       const std::vector<std::string>& classes,
                                       LabelKind kind = LabelKind::kClass);

}  // namespace graft
