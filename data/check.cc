#include "data/check.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <map>
#include <new>
#include <set>
#include <thread>

#include "data/decode_room.h"
#include "data/draw.h"
#include "data/splits.h"
#include "runtime/affinity.h"
#include "runtime/error.h"

namespace graft {
namespace {

struct ImageFacts {
  int width = 0, height = 0;
  uint64_t hash = 0;
  std::exception_ptr failure;  // null if it could be read
  std::string error;           // what it says
};

using FactsByPath = std::map<std::string, ImageFacts>;

uint64_t HashPixels(const Image& image) {
  uint64_t hash =
      HashBits(static_cast<uint64_t>(image.width) << 32 | static_cast<uint64_t>(image.height));
  const std::vector<uint8_t>& rgb = image.rgb;
  for (size_t at = 0; at < rgb.size(); at += 8) {
    uint64_t word = 0;
    std::memcpy(&word, rgb.data() + at, std::min<size_t>(8, rgb.size() - at));
    hash = HashBits(hash ^ word);
  }
  return hash;
}

void ReadFacts(const std::string& path, DecodeRoom& room, ImageFacts& facts) {
  try {
    room.Read(path, [&](const Image& image) {
      facts = {image.width, image.height, HashPixels(image), nullptr, ""};
    });
  } catch (
      ...) {  // without memory there may be none for a message, and no exception leaves a thread
    facts.failure = std::current_exception();
  }
}

void SayFailure(const std::string& path, ImageFacts& facts) {
  try {
    if (facts.failure) std::rethrow_exception(facts.failure);
  } catch (const Error& error) {
    facts.error = error.what();
  } catch (const std::bad_alloc&) {
    facts.error = path + ": not enough memory to decode the image";
  }
}

// Decodes every image once.
FactsByPath ReadAll(FactsByPath facts, int threads, const CheckProgress& progress) {
  std::vector<FactsByPath::value_type*> items;
  for (auto& item : facts) items.push_back(&item);
  std::atomic<size_t> next{0};
  DecodeRoom room{DecodeBounds{}};
  const auto work = [&](const CheckProgress& tell) {
    for (size_t i = next++; i < items.size(); i = next++) {
      ReadFacts(items[i]->first, room, items[i]->second);
      if (tell) tell(std::min(next.load(), items.size()), items.size());
    }
  };
  std::vector<std::jthread> helpers;
  for (int t = 1; t < threads; ++t)
    helpers.emplace_back([&] { UnbindThread(), work(CheckProgress()); });
  work(progress);
  helpers.clear();  // joins
  if (progress) progress(items.size(), items.size());
  for (auto& [path, one] : facts) SayFailure(path, one);
  return facts;
}

SplitReport ReportSplit(const Split& split, const FactsByPath& all, int num_classes) {
  SplitReport report;
  report.name = split.name;
  report.images = split.examples.size();
  report.per_class.resize(num_classes);
  size_t readable = 0;
  for (const Example& example : split.examples) {
    ++report.per_class[example.label];
    const ImageFacts& facts = all.at(example.path);
    if (!facts.error.empty()) continue;
    const bool first = readable++ == 0;
    report.min_width = first ? facts.width : std::min(report.min_width, facts.width);
    report.max_width = std::max(report.max_width, facts.width);
    report.min_height = first ? facts.height : std::min(report.min_height, facts.height);
    report.max_height = std::max(report.max_height, facts.height);
    report.mean_width += facts.width;
    report.mean_height += facts.height;
  }
  if (readable) {
    report.mean_width /= static_cast<double>(readable);
    report.mean_height /= static_cast<double>(readable);
  }
  return report;
}

// Finds equal pictures of two splits under different paths.
void FindDuplicates(const Split& a, const Split& b, const FactsByPath& all, DatasetReport& report) {
  std::map<uint64_t, const std::string*> by_hash;
  for (const Example& example : a.examples)
    if (const ImageFacts& facts = all.at(example.path); facts.error.empty())
      by_hash.emplace(facts.hash, &example.path);
  for (const Example& example : b.examples) {
    const ImageFacts& facts = all.at(example.path);
    const auto found = facts.error.empty() ? by_hash.find(facts.hash) : by_hash.end();
    if (found != by_hash.end() && *found->second != example.path)
      report.duplicates.push_back({a.name, *found->second, b.name, example.path});
  }
}

// Finds pictures with two labels; for each, one other picture of its kind is reported.
void FindConflicts(const std::vector<Split>& splits, const FactsByPath& all,
                   DatasetReport& report) {
  std::map<uint64_t, const Example*> by_hash;
  std::set<std::pair<std::string, int>> told;
  for (const Split& split : splits)
    for (const Example& example : split.examples) {
      const ImageFacts& facts = all.at(example.path);
      if (!facts.error.empty()) continue;
      const Example& first = *by_hash.emplace(facts.hash, &example).first->second;
      if (first.label != example.label && told.emplace(example.path, example.label).second)
        report.conflicts.push_back({first.path, example.path, first.label, example.label});
    }
}

bool IsTest(const std::string& split) { return PurposeOf(split) == SplitPurpose::kTest; }

template <class Items, class Line>
void AppendLines(std::string& text, std::string_view title, const Items& items, Line line) {
  constexpr size_t kShown = 10;
  if (items.empty()) return;
  text += fmt::format("{}: {}\n", title, items.size());
  for (size_t i = 0; i < std::min(kShown, items.size()); ++i) text += "  " + line(items[i]) + "\n";
  if (items.size() > kShown) text += fmt::format("  ... and {} more\n", items.size() - kShown);
}

}  // namespace

size_t DatasetReport::leaked() const {
  size_t count = 0;
  for (const SplitOverlap& o : overlaps)
    if (IsTest(o.first) != IsTest(o.second)) count += o.count;
  return count;
}

bool DatasetReport::ok() const {
  return unreadable.empty() && left_out.empty() && duplicates.empty() && leaked() == 0 &&
         conflicts.empty() && problems.empty();
}

std::string DatasetReport::problem() const {
  if (ok()) return "";
  std::vector<std::string> parts;
  const auto add = [&](size_t count, const char* what, const char* rest) {
    if (count > 0)
      parts.push_back(fmt::format("{} {}{}{}", count, what, count > 1 ? "s" : "", rest));
  };
  if (problems.size() == 1) parts.push_back(problems[0]);
  add(problems.size() > 1 ? problems.size() : 0, "mistake", " in lists and folders");
  add(unreadable.size(), "unreadable image", "");
  add(left_out.size(), "image", " of a format that is not read");
  add(duplicates.size(), "picture", " under two paths");
  add(conflicts.size(), "picture", " with two labels");
  add(leaked(), "file", " of a test split in another");
  if (problems.size() == 1 && parts.size() == 1) return problems[0];
  return fmt::format("{}: {}; the report above names them", directory, fmt::join(parts, ", "));
}

std::vector<UnreadableImage> FindUnreadable(const std::vector<std::string>& paths, int threads,
                                            const CheckProgress& progress) {
  FactsByPath facts;
  for (const std::string& path : paths) facts[path];
  std::vector<UnreadableImage> unreadable;
  for (const auto& [path, one] : ReadAll(std::move(facts), threads, progress))
    if (!one.error.empty()) unreadable.push_back({path, one.error});
  return unreadable;
}

namespace {

// What the training examples lack to be trained on.
std::string OneClass(const DatasetReport& report) {
  const auto is_train = [](const SplitReport& s) {
    return PurposeOf(s.name) == SplitPurpose::kTrain && s.images > 0;
  };
  const auto train = std::ranges::find_if(report.splits, is_train);
  if (train == report.splits.end()) return "";
  if (std::ranges::count_if(train->per_class, [](size_t n) { return n > 0; }) > 1) return "";
  return fmt::format("{}: all {} images of split '{}' are of one class", report.directory,
                     train->images, train->name);
}

void CheckSplits(const ImageDataset& dataset, int threads, const CheckProgress& progress,
                 DatasetReport& report) {
  const std::vector<Split>& splits = dataset.splits();
  FactsByPath paths;
  for (const Split& split : splits)
    for (const Example& example : split.examples) paths[example.path];
  const FactsByPath all = ReadAll(std::move(paths), threads, progress);
  for (const Split& split : splits)
    report.splits.push_back(ReportSplit(split, all, report.num_classes));
  for (const auto& [path, facts] : all)
    if (!facts.error.empty()) report.unreadable.push_back({path, facts.error});
  for (size_t i = 0; i < splits.size(); ++i) {
    for (size_t j = i + 1; j < splits.size(); ++j) {
      const size_t shared = Overlap(splits[i], splits[j]).size();
      if (shared) report.overlaps.push_back({splits[i].name, splits[j].name, shared});
      // A list that contains another one has that one's duplicates, which are found there.
      const size_t smaller = std::min(splits[i].examples.size(), splits[j].examples.size());
      if (shared < smaller) FindDuplicates(splits[i], splits[j], all, report);
    }
  }
  FindConflicts(splits, all, report);
}

}  // namespace

DatasetReport CheckDataset(const std::string& directory, int threads,
                           const CheckProgress& progress) {
  DatasetReport report;
  report.directory = directory;
  try {
    const ImageDataset dataset(directory, &report.problems);
    report.form = dataset.form();
    report.num_classes = dataset.num_classes();
    report.class_names = dataset.class_names();
    report.left_out = dataset.left_out();
    report.notes = dataset.Notes(true);
    CheckSplits(dataset, threads, progress, report);
    if (std::string one = OneClass(report); !one.empty()) report.problems.push_back(std::move(one));
  } catch (const Error& e) {
    report.problems.push_back(e.what());
  }
  return report;
}

namespace {

std::string SizesText(const SplitReport& s) {
  if (s.max_width == 0) return "none that can be read";
  if (s.min_width == s.max_width && s.min_height == s.max_height)
    return fmt::format("{} x {} pixels", s.max_width, s.max_height);
  return fmt::format("{}..{} x {}..{} pixels (mean {:.0f} x {:.0f})", s.min_width, s.max_width,
                     s.min_height, s.max_height, s.mean_width, s.mean_height);
}

std::string ClassName(const DatasetReport& report, int label) {
  const auto i = static_cast<size_t>(label);
  return i < report.class_names.size() ? report.class_names[i] : std::to_string(label);
}

}  // namespace

std::string ToString(const DatasetReport& report) {
  std::string text =
      fmt::format("{}: {}, {} class{}\n", report.directory,
                  report.form == DatasetForm::kLists ? "lists of images" : "a folder per class",
                  report.num_classes, report.num_classes == 1 ? "" : "es");
  for (const SplitReport& split : report.splits) {
    const auto [least, most] = std::minmax_element(split.per_class.begin(), split.per_class.end());
    text += fmt::format(
        "  {:<15} {} images, {} per class, {}\n", split.name, split.images,
        *least == *most ? fmt::format("{}", *least) : fmt::format("{} to {}", *least, *most),
        SizesText(split));
  }
  AppendLines(text, "mistakes", report.problems, [](const std::string& p) { return p; });
  AppendLines(text, "unreadable images", report.unreadable,
              [](const UnreadableImage& u) { return u.reason; });
  AppendLines(text, "images of formats that are not read", report.left_out,
              [](const std::string& path) { return path; });
  AppendLines(text, "equal pictures in two splits", report.duplicates, [](const DuplicateImage& d) {
    return fmt::format("{} ({}) = {} ({})", d.first_path, d.first_split, d.second_path,
                       d.second_split);
  });
  AppendLines(text, "pictures with two labels", report.conflicts, [&](const LabelConflict& c) {
    return fmt::format("{} is {}, {} is {}", c.first_path, ClassName(report, c.first_label),
                       c.second_path, ClassName(report, c.second_label));
  });
  AppendLines(text, "splits that share files", report.overlaps, [](const SplitOverlap& o) {
    return fmt::format("{} and {}: {} files", o.first, o.second, o.count);
  });
  AppendLines(text, "notes", report.notes, [](const std::string& note) { return note; });
  text += report.ok() ? "no problem found\n" : "problems found\n";
  return text;
}

}  // namespace graft
