#include "data/check_texts.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/error.h"

namespace graft {
namespace {

void AddSplit(const TextDataset& data, const std::string& name, TextReport& report,
              std::vector<TextSplit>& read) {
  TextSplitReport split{name, 0, std::vector<size_t>(report.class_names.size()), ""};
  try {
    read.push_back(data.Load(name));
    split.texts = read.back().examples.size();
    for (const TextExample& e : read.back().examples) ++split.per_class[e.label];
  } catch (const Error& e) {
    split.error = e.what();
    if (report.ok()) report.problem = split.error;
  }
  report.splits.push_back(std::move(split));
}

std::string Line(const SplitOverlap& o) {
  return fmt::format("{} texts of {} are in {} too", o.count, o.second, o.first);
}

void AddOverlap(const TextSplit& a, const TextSplit& b, TextReport& report) {
  const SplitOverlap overlap{a.name, b.name, Overlap(b, a).size()};
  if (overlap.count == 0) return;
  if (report.ok() &&
      overlap.count * kTextsByChance >= std::min(a.examples.size(), b.examples.size()))
    report.problem = fmt::format("{}: {}", report.directory, Line(overlap));
  report.overlaps.push_back(overlap);
}

}  // namespace

TextReport CheckTexts(const std::string& directory) {
  const TextDataset data(directory);
  TextReport report{data.directory(), data.pairs(), data.class_names(), {}, {}, ""};
  for (int i = static_cast<int>(report.class_names.size()); i < data.num_classes(); ++i)
    report.class_names.push_back(std::to_string(i));
  std::vector<TextSplit> read;
  for (const std::string& name : data.split_names()) AddSplit(data, name, report, read);
  for (size_t i = 0; i < read.size(); ++i)
    for (size_t j = i + 1; j < read.size(); ++j) AddOverlap(read[i], read[j], report);
  return report;
}

std::string ToString(const TextReport& report) {
  constexpr size_t kShown = 10;
  std::string text =
      fmt::format("{}: {}, {} classes\n", report.directory,
                  report.pairs ? "pairs of texts" : "texts", report.class_names.size());
  for (const TextSplitReport& split : report.splits) {
    if (!split.error.empty()) {
      text += fmt::format("  {:<10} {}\n", split.name, split.error);
      continue;
    }
    text += fmt::format("  {:<10} {} texts", split.name, split.texts);
    for (size_t i = 0; i < split.per_class.size() && i < kShown; ++i)
      text += fmt::format(", {} {}", split.per_class[i], report.class_names[i]);
    text += split.per_class.size() > kShown ? ", ...\n" : "\n";
  }
  for (const SplitOverlap& overlap : report.overlaps) text += fmt::format("  {}\n", Line(overlap));
  return text + (report.ok() ? "no problem found\n" : "problems found\n");
}

}  // namespace graft
