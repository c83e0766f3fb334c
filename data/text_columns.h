// Finds out which columns of a table hold the text, the second text of a pair and the label, and
// whether line 1 names them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/text.h"

namespace graft {

// The columns of a row; `second` is SIZE_MAX if there is no second text.
struct Places {
  size_t text = 0, second = SIZE_MAX, label = 1;
  bool named = false;  // by their names or by the caller: `text` is the text and no guess
  std::vector<size_t> more = {};  // further columns of the label
  bool pairs() const { return second != SIZE_MAX; }
};

// A name without blanks and quotes around it, in lower case, as people may write it in any form.
std::string ColumnName(std::string_view field);

// The columns of a label, which '|' joins.
std::vector<std::string> LabelParts(const std::string& label);

// Whether the caller names columns by their numbers, which count from 1.
bool AreNumbers(const TextColumns& asked);

// Finds columns by their numbers, in rows of so many columns. Throws Error for a number beyond
// them.
Places PlacesByNumber(const TextColumns& asked, size_t columns, const std::string& where);

// Finds columns by name: those that the caller asks for, else the usual ones, in any case of
// letters. If one has no usual name, the only column that is left over (numbers of rows aside) is
// taken for it. Throws Error, with the hint --columns, where that would be a guess, and for two
// columns of one name.
Places PlacesByName(const TextColumns& asked, const std::vector<std::string>& columns,
                    const std::string& where);

// Does the same for texts to predict, where there need not be a column of labels: finds text and
// second.
Places TextPlacesByName(const std::vector<std::string>& columns, const std::string& where);

// Whether one of the columns has a name that is always that of a text, such as `sentence`.
bool NamesAText(const std::vector<std::string>& columns);

// Finds columns by their order: text [second] label. REQUIRES: there are 2 or 3.
Places PlacesByOrder(size_t columns);

// What a first line says about itself.
enum class FirstLine {
  kNames,    // names columns beyond doubt: it has a column `label`, or known ones of both kinds
  kUnknown,  // may be an example; see NamesAny
};
// `classes` are those of labels.txt, which are no names of columns.
FirstLine LookAt(const std::vector<std::string>& fields, const std::vector<std::string>& classes);

// Whether one of the fields is a usual name of a text or a label.
bool NamesAny(std::span<const std::string> fields);
// The place of the first field that is a usual name of a column of files, else their number.
size_t FileColumn(std::span<const std::string> fields);
// Whether all fields could be names of columns: words of letters, digits, '_', '-' and '.'.
bool AreIdentifiers(std::span<const std::string> fields);

}  // namespace graft
