#include "data/check_texts.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "data/image_places.h"
#include "data/splits.h"
#include "runtime/error.h"
#include "runtime/io/near_path.h"

namespace graft {
namespace {

void Count(const TextExample& e, LabelKind kind, TextSplitReport* split) {
  if (kind == LabelKind::kClass) ++split->per_class[e.label];
  for (size_t k = 0; k < e.targets.size() && kind == LabelKind::kClasses; ++k)
    split->per_class[k] += e.targets[k] > 0;
  if (kind != LabelKind::kNumbers) return;
  if (split->columns.empty())
    for (const float target : e.targets) split->columns.push_back({target, 0, target});
  for (size_t k = 0; k < e.targets.size(); ++k) {
    TextSplitReport::Column& c = split->columns[k];
    c.least = std::min<double>(c.least, e.targets[k]),
    c.most = std::max<double>(c.most, e.targets[k]);
    c.mean += e.targets[k];
  }
}

// Looks for the images that rows name; a missing one makes a bad row.
void FindImages(const TextDataset& data, const TextSplit& read, TextSplitReport* split,
                TextReport* report) {
  constexpr size_t kKept = 1000;
  const ImagePlaces places = PlacesOfImages(data, read.name);
  if (const std::string note = places.Note(); !note.empty())
    report->notes.push_back(fmt::format("split '{}': {}", read.name, note));
  for (const TextExample& e : read.examples) {
    const std::string path = places.Path(e.text);
    std::error_code ignored;
    if (std::filesystem::is_regular_file(path, ignored)) continue;
    if (++split->bad_rows <= kKept)
      split->problems.push_back(fmt::format("split '{}' names the image {}, which does not exist{}",
                                            read.name, path,
                                            split->bad_rows == 1 ? DidYouMeanPath(path) : ""));
    if (report->ok()) report->problem = split->problems.front();
  }
}

// Whether there is nothing to learn, as no label differs from another.
bool AllAlike(const std::vector<TextExample>& examples) {
  return std::ranges::all_of(examples, [&](const TextExample& e) {
    return e.label == examples[0].label && e.targets == examples[0].targets;
  });
}

void AddSplit(const TextDataset& data, const std::string& name, TextReport& report,
              std::vector<TextSplit>& read) {
  TextSplitReport split{.name = name, .per_class = {}, .problems = {}};
  if (report.kind != LabelKind::kNumbers) split.per_class.resize(report.class_names.size());
  TextDataset::Problems problems = data.problems(name);
  split.problems = std::move(problems.first), split.bad_rows = problems.count;
  if (split.bad_rows > 0 && report.ok()) {
    report.problem = split.problems[0];
    if (split.bad_rows > 1)
      report.problem +=
          fmt::format("; {} rows are wrong, which the report above names", split.bad_rows);
  }
  try {
    read.push_back(data.Load(name));
    split.texts = read.back().examples.size();
    for (const TextExample& e : read.back().examples) Count(e, report.kind, &split);
    for (TextSplitReport::Column& c : split.columns) c.mean /= static_cast<double>(split.texts);
    if (report.images) FindImages(data, read.back(), &split, &report);
  } catch (const Error&) {
    // The split has no example at all, as `problems` says.
  }
  if (split.texts > 0 && name == data.DefaultTrainSplit() && report.ok() &&
      AllAlike(read.back().examples))
    report.problem = fmt::format(
        "{}: all {} {} of split '{}' {}", report.directory, split.texts,
        report.images ? "images" : "texts", name,
        report.kind == LabelKind::kClass ? "are of one class" : "have the same targets");
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

TextReport CheckTexts(const std::string& directory, const TextColumns& columns, LabelKind kind) {
  TextReport report;
  report.directory = directory, report.kind = kind;
  try {
    const TextDataset data(directory, columns, true, {.kind = kind});
    report.pairs = data.pairs(), report.class_names = data.class_names();
    report.images = NamesImages(data);
    for (int i = static_cast<int>(report.class_names.size()); i < data.num_classes(); ++i)
      report.class_names.push_back(std::to_string(i));
    report.notes = data.Notes(true);
    std::vector<TextSplit> read;
    for (const std::string& name : data.split_names()) AddSplit(data, name, report, read);
    for (size_t i = 0; i < read.size(); ++i)
      for (size_t j = i + 1; j < read.size(); ++j) AddOverlap(read[i], read[j], report);
  } catch (const Error& e) {
    report.problem = e.what();
  }
  return report;
}

namespace {

constexpr size_t kShown = 10;

const char* Unit(const TextReport& report) {
  return report.images ? "images" : report.pairs ? "pairs of texts" : "texts";
}

// The first problems, with the hint that helps only once.
std::string ProblemsText(const TextSplitReport& split) {
  constexpr std::string_view kHint = "; hint: ";
  std::string text;
  std::vector<std::string> hints;
  for (size_t i = 0; i < std::min(kShown, split.problems.size()); ++i) {
    const std::string& problem = split.problems[i];
    const size_t at = std::min(problem.find(kHint), problem.size());
    text += fmt::format("    {}\n", problem.substr(0, at));
    if (at == problem.size()) continue;
    std::string hint = problem.substr(at + kHint.size());
    if (!Contains(hints, hint)) hints.push_back(std::move(hint));
  }
  if (split.bad_rows > kShown)
    text += fmt::format("    ... and {} more\n", split.bad_rows - kShown);
  for (const std::string& hint : hints) text += fmt::format("    hint: {}\n", hint);
  return text;
}

}  // namespace

std::string ToString(const TextReport& report) {
  const size_t classes = report.class_names.size();
  std::string text = fmt::format("{}: {}, {} class{}\n", report.directory, Unit(report), classes,
                                 classes == 1 ? "" : "es");
  if (report.kind == LabelKind::kNumbers)
    text = fmt::format("{}: {}, numbers: {}\n", report.directory, Unit(report),
                       fmt::join(report.class_names, ", "));
  for (const TextSplitReport& split : report.splits) {
    text +=
        fmt::format("  {:<10} {} {}", split.name, split.texts, report.images ? "images" : "texts");
    for (size_t k = 0; k < split.columns.size() && k < kShown; ++k)
      text += fmt::format(", {} {:.4g} to {:.4g} (mean {:.4g})", report.class_names[k],
                          split.columns[k].least, split.columns[k].most, split.columns[k].mean);
    for (size_t i = 0; i < split.per_class.size() && i < kShown; ++i)
      text += fmt::format(", {}: {}", report.class_names[i], split.per_class[i]);
    text += split.per_class.size() > kShown ? ", ...\n" : "\n";
    text += ProblemsText(split);
  }
  const size_t shared = report.overlaps.size();
  for (size_t i = 0; i < std::min(kShown, shared); ++i)
    text += fmt::format("  {}\n", Line(report.overlaps[i]));
  if (shared > kShown)
    text += fmt::format("  ... and {} more pairs of splits that share texts\n", shared - kShown);
  for (const std::string& note : report.notes) text += fmt::format("  note: {}\n", note);
  return text + (report.ok() ? "no problem found\n" : "problems found\n");
}

}  // namespace graft
