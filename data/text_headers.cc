// Decides from what a table holds whether its line 1 names the columns.
#include <algorithm>
#include <set>
#include <unordered_map>

#include "data/splits.h"
#include "data/text_table.h"
#include "data/text_targets.h"
#include "runtime/error.h"

namespace graft {
namespace {

using Names = std::vector<std::string>;

std::string_view Label(const RawTable& table, const RawRow& row) {
  return TrimBlanks(row.fields[table.places.label]);
}

std::span<const std::string> FirstFields(const RawTable& table) {
  return std::span(table.rows[0].fields).first(std::min<size_t>(table.columns, 3));
}

bool SameRows(const RawTable& a, const RawTable& b) {
  return std::ranges::equal(a.rows, b.rows,
                            [](const RawRow& x, const RawRow& y) { return x.fields == y.fields; });
}

class HeaderDecision {
 public:
  HeaderDecision(std::vector<RawTable>& tables, const TextColumns& asked, const Names& classes,
                 LabelKind kind)
      : tables_(tables), asked_(asked), classes_(classes), kind_(kind) {
    // Counts how often every label occurs outside of lines that may be headers, also again.
    for (const RawTable& table : tables_)
      for (size_t i = table.open; i < table.rows.size(); ++i)
        if (!table.open || table.rows[i].fields != table.rows[0].fields)
          for (std::string& label : LabelsIn(Label(table, table.rows[i]))) ++counts_[label];
  }

  void Decide(RawTable& table) {
    const size_t line = table.rows[0].line;
    const std::string where = fmt::format("{}:{}", table.path, line);
    const std::string label(Label(table, table.rows[0]));
    const Names labels = LabelsIn(label);
    const bool known =
        IsMissing(label) || std::ranges::any_of(labels, [&](const auto& one) {
          return Contains(classes_, one) || counts_.contains(one) || ParseNumber(one);
        });
    if (!known && IsHeader(table)) return TakeHeader(table, where);
    table.open = false;
    if (kind_ == LabelKind::kNumbers) return;
    RefuseLabelFirst(table, known);
    if (!known) RefuseLoneClass(table, fmt::format("{}", fmt::join(labels, "|")), where);
  }

  Names notes;

 private:
  // The labels in a field: one class, or each of several values.
  Names LabelsIn(std::string_view field) const {
    if (kind_ == LabelKind::kClasses) return SplitClasses(field);
    return DecodeList(field);
  }

  bool IsHeader(const RawTable& table) const {
    if (NamesAny(FirstFields(table))) return true;
    size_t others = 0, numbers = 0, identifiers = 0;
    for (size_t i = 1; i < table.rows.size(); ++i) {
      const RawRow& row = table.rows[i];
      if (row.fields == table.rows[0].fields) continue;
      ++others;
      numbers += std::ranges::all_of(DecodeList(Label(table, row)), [](const std::string& value) {
        return ParseNumber(TrimBlanks(value)).has_value();
      });
      identifiers += AreIdentifiers(std::span(&row.fields[table.places.text], 1));
    }
    if (others > 0 && numbers == others) return true;
    if (!classes_.empty()) return false;  // a class that labels.txt lacks
    // Looks for another file that begins with the same line and goes on differently.
    for (const RawTable& other : tables_)
      if (&other != &table && !other.rows.empty() &&
          (other.open ? std::ranges::equal(FirstFields(other), FirstFields(table))
                      : std::ranges::equal(other.header, FirstFields(table))) &&
          !SameRows(table, other))
        return true;
    return AreIdentifiers(FirstFields(table)) && others >= 3 && identifiers * 10 <= others;
  }

  void TakeHeader(RawTable& table, const std::string& where) {
    table.open = false;
    table.header.assign(FirstFields(table).begin(), FirstFields(table).end());
    const bool numbers = table.places.named;  // the caller's
    try {
      if (!numbers) table.places = PlacesByName(asked_, table.header, where);
    } catch (const Error& e) {
      table.error = e.what();
      table.rows.clear();
      return;
    }
    table.label_names = DecodeList(table.rows[0].fields[table.places.label]);
    table.text_name = table.rows[0].fields[table.places.text];
    if (table.pairs()) table.second_name = table.rows[0].fields[table.places.second];
    const auto names = table.rows[0].fields;
    table.rows.erase(table.rows.begin());
    std::erase_if(table.rows, [&](const RawRow& row) {
      if (row.fields != names) return false;
      table.problems.Add(fmt::format("{}:{}: {}", table.path, row.line, kNamesAgain));
      return true;
    });
    if (table.rows.empty()) {
      table.error = fmt::format("{}: expected texts with labels, found none", table.path);
      return;
    }
    if (!numbers)
      notes.push_back(fmt::format(
          "{}: names the columns: '{}'{} and the label '{}' are read (--columns says otherwise)",
          where, table.header[table.places.text],
          table.pairs() ? fmt::format(", '{}'", table.header[table.places.second]) : "",
          table.header[table.places.label]));
    if (kind_ != LabelKind::kNumbers) RefuseLabelFirst(table, true);
  }

  // Sets `table.error` if the first column holds fewer values than the last, and shorter ones.
  void RefuseLabelFirst(RawTable& table, bool known) const {
    const Places& p = table.places;
    if (p.named || table.rows.size() < 3) return;
    std::set<std::string_view> first, last;
    size_t first_bytes = 0, last_bytes = 0;
    for (const RawRow& row : table.rows) {
      first.insert(TrimBlanks(row.fields[p.text])), first_bytes += row.fields[p.text].size();
      last.insert(TrimBlanks(row.fields[p.label])), last_bytes += row.fields[p.label].size();
    }
    if (first.size() >= last.size() || first_bytes >= last_bytes) return;
    const bool pairs = p.pairs();
    const Names names = known || table.header.empty() ? Names{"1", "2", "3"} : table.header;
    table.error = fmt::format(
        "{}: the label seems to stand first: column 1 has {} different values, column {} has {}; "
        "hint: --columns {} if it does, --columns {} if not",
        table.path, first.size(), pairs ? 3 : 2, last.size(), pairs ? "2,3,1" : "2,1",
        pairs ? "1,2,3" : "1,2");
    if (!known && AreIdentifiers(FirstFields(table)))
      table.error += fmt::format("; if line 1 names the columns: --columns {}",
                                 fmt::join(Turned(FirstFields(table)), ","));
    table.rows.clear();
  }

  static Names Turned(std::span<const std::string> names) {
    Names turned(names.begin() + 1, names.end());
    turned.push_back(names[0]);
    return turned;
  }

  // Sets `table.error`, unless the caller has said what line 1 is or something else tells more.
  void RefuseLoneClass(RawTable& table, const std::string& label, const std::string& where) {
    if (!table.error.empty() || !classes_.empty()) return;
    const bool others_repeat =
        std::ranges::any_of(counts_, [](const auto& count) { return count.second > 1; });
    if (!others_repeat) return;
    if (table.places.named) {  // by number
      notes.push_back(
          fmt::format("{}: read as an example, the only one of the class '{}'; hint: "
                      "--columns with names if it names the columns",
                      where, label));
      return;
    }
    const bool pairs = table.pairs();
    table.error = fmt::format(
        "{}: does this line name the columns, or is it the only example of the class '{}'? hint: "
        "--columns {} if it names them, --columns {} if it is an example",
        where, label, fmt::join(FirstFields(table), ","), pairs ? "1,2,3" : "1,2");
    table.rows.clear();
  }

  std::vector<RawTable>& tables_;
  const TextColumns& asked_;
  const Names& classes_;
  const LabelKind kind_;
  std::unordered_map<std::string, size_t> counts_;
};

}  // namespace

std::vector<std::string> DecideHeaders(std::vector<RawTable>& tables, const TextColumns& columns,
                                       const std::vector<std::string>& classes, LabelKind kind) {
  HeaderDecision decision(tables, columns, classes, kind);
  for (RawTable& table : tables)
    if (table.open && !table.rows.empty()) decision.Decide(table);
  return std::move(decision.notes);
}

}  // namespace graft
