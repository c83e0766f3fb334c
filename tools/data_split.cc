// graft data split
#include <filesystem>

#include "data/check.h"
#include "data/holdout.h"
#include "data/image_places.h"
#include "data/split_files.h"
#include "data/splits.h"
#include "runtime/io/fresh_directory.h"
#include "tools/commands.h"
#include "tools/lib/data_report.h"
#include "tools/lib/label_kind.h"
#include "tools/lib/output.h"
#include "tools/lib/report.h"

namespace graft {
namespace {

struct SplitOptions {
  std::string data, out, split, columns, task = kTaskByData;
  double holdout = 0;
  int folds = 0;
  bool skip_bad = false;
};

void Write(const std::string& directory, const ImageDataset& data,
           const std::vector<Split>& parts) {
  WriteImageLists(directory, data.class_names(), parts);
}
void Write(const std::string& directory, const TextDataset& data,
           const std::vector<TextSplit>& parts) {
  WriteTextTables(directory, data.class_names(), parts, data.kind());
}

// The training and validation parts, and the test split of the data set.
template <class Data, class AnySplit>
std::vector<AnySplit> WithTest(const Data& data, AnySplit train, AnySplit val) {
  train.name = "train", val.name = "val";
  std::vector<AnySplit> parts{std::move(train), std::move(val)};
  for (const std::string& name : data.split_names())
    if (PurposeOf(name) == SplitPurpose::kTest && parts.size() == 2) {
      parts.push_back(data.Load(name));
      parts.back().name = "test";
    }
  return parts;
}

// With --skip-bad the images that can be read.
ImageDataset OpenImages(ImageDataset data, const SplitOptions& o, const CommonOptions& common) {
  if (!o.skip_bad) return data;
  data.AllowMissing();
  std::vector<Skipped> skipped;
  for (const std::string& split : data.split_names()) {
    std::set<std::string> paths, bad;
    for (const Example& e : data.Load(split).examples) paths.insert(e.path);
    for (const UnreadableImage& image : FindUnreadable({paths.begin(), paths.end()}, Threads()))
      bad.insert(image.path), skipped.push_back({image.path, image.reason});
    data.LeaveOut(split, bad);
  }
  SaySkipped(common, skipped);
  return data;
}

// The columns by which the tables are read back, if the usual names are not enough.
std::string ColumnsText(const TextDataset& data) {
  if (data.kind() != LabelKind::kNumbers || data.class_names().size() < 2) return "";
  return " --columns " + ShellWord(fmt::format("text,{}{}", data.pairs() ? "second," : "",
                                               fmt::join(data.class_names(), "|")));
}
std::string ColumnsText(const ImageDataset&) { return ""; }

// Writes the parts into one directory for a holdout, or into one for each fold.
template <class Data>
void WriteParts(Data data, const SplitOptions& o, const CommonOptions& common) {
  const std::string name = o.split.empty() ? data.DefaultTrainSplit() : o.split;
  if (name.empty())
    Fail("{}: no usual training split; name one with --split{}", o.data,
         DidYouMean("train", data.split_names()));
  const auto whole = data.Load(name);
  const auto seed = static_cast<uint64_t>(common.seed);
  FreshDirectory out(o.out);
  nlohmann::json written = nlohmann::json::array();
  TextTable table({1, 2, 3});
  const bool test = std::ranges::any_of(data.split_names(), [](const std::string& split) {
    return PurposeOf(split) == SplitPurpose::kTest;
  });
  std::vector<std::string> head{"", "train", "val"};
  if (test) head.emplace_back("test");
  table.Add(head);
  const auto write = [&](const std::string& below, const auto& parts) {
    const auto in = [&](const std::string& path) {
      return below.empty() ? path : (std::filesystem::path(path) / below).string();
    };
    std::filesystem::create_directories(in(out.path()));
    Write(in(out.path()), data, parts);
    nlohmann::json counts{{"directory", in(o.out)}};
    std::vector<std::string> row{in(o.out)};
    for (const auto& part : parts) {
      counts[part.name] = part.examples.size();
      row.push_back(Grouped(std::ssize(part.examples)));
    }
    row.resize(head.size());
    written.push_back(counts);
    table.Add(row);
  };
  if (o.holdout > 0) {
    data.HoldOut(name, o.holdout, seed);
    write("", WithTest(data, data.Load(name), data.Load(kHoldout)));
  } else {
    const auto folds = static_cast<size_t>(o.folds);
    const std::vector<size_t> fold = DrawFolds(GroupsOf(whole.examples, data.kind()), folds, seed);
    for (size_t k = 0; k < folds; ++k) {
      auto train = whole, val = whole;
      train.examples.clear(), val.examples.clear();
      for (size_t i = 0; i < fold.size(); ++i)
        (fold[i] == k ? val : train).examples.push_back(whole.examples[i]);
      if (val.examples.empty())
        Fail("{}: --folds {}: split '{}' has only {} different examples", o.data, folds, name, k);
      write(fmt::format("fold{}", k + 1), WithTest(data, std::move(train), std::move(val)));
    }
  }
  out.Keep();
  PrintJson(common, {{"data", o.data},
                     {"out", o.out},
                     {"split", name},
                     {"seed", common.seed},
                     {"parts", written}});
  Say(common, fmt::format("{}, split {}: {} examples in lists\n{}", o.data, name,
                          whole.examples.size(), table.Lines("  ")));
  const char* task = data.kind() == LabelKind::kNumbers   ? " --task regression"
                     : data.kind() == LabelKind::kClasses ? " --task multi-label"
                                                          : "";
  Say(common, fmt::format("next: graft train --model M --data {}{}{} --out RUN",
                          ShellWord(written[0]["directory"].template get<std::string>()), task,
                          ColumnsText(data)));
}

void Run(const SplitOptions& o, const CommonOptions& common) {
  if ((o.holdout > 0) == (o.folds > 0))
    FailUsage("data split needs --holdout F or --folds K; example: graft data split --help");
  if (o.out.empty()) FailUsage("data split needs --out, the directory to create");
  const TextColumns columns = ParseTextColumns(o.columns);
  if (const std::string tables = ClassesOf(o.data); HoldsTexts(tables)) {
    const TextDataset texts(tables, columns, o.skip_bad,
                            {.kind = KindOfData(o.task, o.data, columns)});
    if (NamesImages(texts) && texts.kind() == LabelKind::kClass)
      return WriteParts(OpenImages(ImageDataset(texts), o, common), o, common);
    if (NamesImages(texts))
      Fail(
          "{}: a table of images with {}, which is not divided into files; hint: graft train "
          "--holdout divides it as it trains",
          o.data, texts.kind() == LabelKind::kNumbers ? "numbers" : "several labels");
    for (const std::string& split : texts.split_names())
      for (const std::string& problem : texts.problems(split).first)
        if (o.skip_bad) Say(common, "note: left out: " + problem);
    return WriteParts(texts, o, common);
  }
  if (!o.columns.empty()) Fail("--columns {}: {} holds no texts", o.columns, o.data);
  WriteParts(OpenImages(ImageDataset(o.data), o, common), o, common);
}

}  // namespace

void AddDataSplit(CLI::App& data, CommonOptions& common) {
  CLI::App* command = data.add_subcommand(
      "split", "write lists of a part to train on and one to validate on, or of k folds");
  auto o = std::make_shared<SplitOptions>();
  command->add_option("dir", o->data, "data set directory, or a table of texts")->required();
  command->add_option("--out", o->out, "directory to create, a data set by itself");
  command->add_option("--holdout", o->holdout, "share of every class to validate on")
      ->check(CLI::Range(0.001, 0.9));
  command->add_option("--folds", o->folds, "K directories, each with another part to validate on")
      ->check(CLI::Range(2, 1000));
  command->add_option("--split", o->split, "split to divide (default: the training split)");
  command->add_option("--columns", o->columns,
                      "of texts: TEXT,LABEL or TEXT,SECOND,LABEL, names or numbers from 1");
  command->add_flag("--skip-bad", o->skip_bad, "leave out files and rows that cannot be read");
  AddTaskOption(*command, o->task);
  AddCommonOptions(*command, common);
  HideModelOptions(*command);
  command->footer(
      "Example:\n  graft data split photos/ --holdout 0.2 --out lists/\n"
      "  graft data split reviews.csv --folds 5 --seed 1 --out folds/\n"
      "Images stay where they are: the lists name them. Every class has its share in each part.");
  command->callback([o, &common] { Run(*o, common); });
}

}  // namespace graft
