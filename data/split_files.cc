#include "data/split_files.h"

#include <filesystem>

#include "data/text_labels.h"
#include "runtime/error.h"
#include "runtime/io/atomic_file.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

void WriteNames(const std::string& path, const std::vector<std::string>& names) {
  if (names.empty()) return;
  std::string lines;
  for (const std::string& name : names) {
    if (name.find_first_of("\r\n") != name.npos)
      Fail("the class '{}' has a line end in its name, which a list of classes cannot hold", name);
    lines += name + "\n";
  }
  WriteFileAtomically({path}, lines);
}

// Appends a field in quotes; quotes inside are doubled.
void AppendField(std::string_view field, std::string& row) {
  row += '"';
  for (const char c : field) {
    if (c == '"') row += c;
    row += c;
  }
  row += '"';
}

void AppendLabel(const TextExample& e, LabelKind kind, const std::vector<std::string>& names,
                 std::string& row) {
  if (kind == LabelKind::kNumbers) {
    row += fmt::format("{}", fmt::join(e.targets, ","));
    return;
  }
  std::string text;
  const auto label = static_cast<size_t>(e.label);
  if (kind == LabelKind::kClass) text = label < names.size() ? names[label] : std::to_string(label);
  for (size_t k = 0; k < e.targets.size(); ++k)
    if (e.targets[k] > 0) text += (text.empty() ? "" : "|") + names[k];
  AppendField(text, row);
}

}  // namespace

void WriteImageLists(const std::string& directory, const std::vector<std::string>& class_names,
                     const std::vector<Split>& splits) {
  WriteNames(directory + "/classes.txt", class_names);
  for (const Split& split : splits) {
    std::string lines;
    for (const Example& e : split.examples) {
      const std::string path = fs::absolute(e.path).lexically_normal().string();
      if (path.find_first_of("\r\n") != path.npos || TrimBlanks(path) != path)
        Fail("{}: a list cannot hold a path with a line end or a blank at its end; hint: rename it",
             path);
      lines += fmt::format("{} {}\n", path, e.label);
    }
    WriteFileAtomically({directory + "/" + split.name + ".txt"}, lines);
  }
}

void WriteTextTables(const std::string& directory, const std::vector<std::string>& class_names,
                     const std::vector<TextSplit>& splits, LabelKind kind) {
  const bool numbers = kind == LabelKind::kNumbers;
  for (const std::string& name : class_names)
    if (kind == LabelKind::kClasses && name.find('|') != name.npos)
      Fail("the class '{}' has a '|' in its name, which stands between classes in a table", name);
  if (!numbers) WriteNames(directory + "/labels.txt", class_names);
  for (const TextSplit& split : splits) {
    const bool pairs = !split.examples.empty() && split.examples[0].second;
    std::string rows = pairs ? "text,second" : "text";
    if (!numbers) rows += ",label";
    for (const std::string& name : numbers ? class_names : std::vector<std::string>{})
      AppendField(name, rows += ',');
    rows += '\n';
    for (const TextExample& e : split.examples) {
      AppendField(e.text, rows);
      if (e.second) AppendField(*e.second, rows += ',');
      AppendLabel(e, kind, class_names, rows += ',');
      rows += '\n';
    }
    WriteFileAtomically({directory + "/" + split.name + ".csv"}, rows);
  }
}

}  // namespace graft
