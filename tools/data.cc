// graft data

#include "data/check_texts.h"
#include "data/generate.h"
#include "runtime/threads.h"
#include "tools/commands.h"
#include "tools/lib/label_kind.h"
#include "tools/lib/output.h"
#include "tools/lib/progress.h"
#include "tools/lib/report.h"
#include "train/dataset.h"

namespace graft {
namespace {

constexpr int kMostImages = 1'000'000;  // of a split

struct MakeOptions {
  std::string task, out;
  int size = 64;
  TaskCounts counts;
};

nlohmann::json TaskJson(const GeneratedTask& task) {
  return {{"task", task.name}, {"about", task.about}, {"classes", task.classes}};
}

void ListTasks(const CommonOptions& common) {
  nlohmann::json tasks = nlohmann::json::array();
  TextTable table({1});
  table.Add({"task", "classes", "question"});
  for (const GeneratedTask& task : GeneratedTasks()) {
    tasks.push_back(TaskJson(task));
    table.Add({task.name, std::to_string(task.classes.size()), task.about});
  }
  PrintJson(common, {{"tasks", tasks}});
  Say(common, table.Lines(""));
}

void Make(const MakeOptions& o, const CommonOptions& common) {
  if (o.task == "list") return ListTasks(common);
  if (o.out.empty()) FailUsage("data make needs --out, the directory to create");
  const GeneratedTask* task = nullptr;
  try {
    task = &FindGeneratedTask(o.task);
  } catch (const Error& e) {
    FailUsage("{}; see graft data make list", e.what());
  }
  if (o.size < kMinGeneratedSize || o.size > kMaxGeneratedSize)
    FailUsage("--size: expected {} to {} pixels, found {}", kMinGeneratedSize, kMaxGeneratedSize,
              o.size);
  WriteTask(o.out, task->name, o.size, o.counts, static_cast<uint64_t>(common.seed));
  nlohmann::json json = TaskJson(*task);
  json.update(
      {{"out", o.out},
       {"size", o.size},
       {"seed", common.seed},
       {"images",
        {{"train800", o.counts.train}, {"val200", o.counts.val}, {"test", o.counts.test}}}});
  PrintJson(common, json);
  Say(common, fmt::format("{}: {} ({} classes: {})", o.out, task->about, task->classes.size(),
                          fmt::join(task->classes, ", ")));
  Say(common,
      fmt::format("  {0}x{0} pixels; {1} training, {2} validation and {3} test images", o.size,
                  Grouped(o.counts.train), Grouped(o.counts.val), Grouped(o.counts.test)));
  Say(common, fmt::format("next: graft train --model init:vit_nano_patch8_64 --data {0} --method "
                          "full --lr 1e-3 --out runs/{1}",
                          ShellWord(o.out), task->name));
}

nlohmann::json ReportJson(const DatasetReport& report) {
  using nlohmann::json;
  json splits = json::array(), unreadable = json::array(), duplicates = json::array(),
       overlaps = json::array(), conflicts = json::array();
  for (const SplitReport& s : report.splits)
    splits.push_back({{"split", s.name},
                      {"images", s.images},
                      {"per_class", s.per_class},
                      {"min_width", s.min_width},
                      {"max_width", s.max_width},
                      {"min_height", s.min_height},
                      {"max_height", s.max_height}});
  for (const UnreadableImage& u : report.unreadable)
    unreadable.push_back({{"path", u.path}, {"reason", u.reason}});
  for (const DuplicateImage& d : report.duplicates)
    duplicates.push_back({{"first", d.first_path},
                          {"first_split", d.first_split},
                          {"second", d.second_path},
                          {"second_split", d.second_split}});
  for (const SplitOverlap& o : report.overlaps)
    overlaps.push_back({{"first", o.first}, {"second", o.second}, {"count", o.count}});
  for (const LabelConflict& c : report.conflicts)
    conflicts.push_back({{"first", c.first_path},
                         {"first_label", c.first_label},
                         {"second", c.second_path},
                         {"second_label", c.second_label}});
  return {{"data", report.directory},
          {"ok", report.ok()},
          {"classes", report.num_classes},
          {"class_names", report.class_names},
          {"splits", splits},
          {"problems", report.problems},
          {"unreadable", unreadable},
          {"duplicates", duplicates},
          {"conflicts", conflicts},
          {"overlaps", overlaps},
          {"left_out", report.left_out},
          {"notes", report.notes}};
}

// The report of columns of numbers.
nlohmann::json ColumnsJson(const TextSplitReport& split, const std::vector<std::string>& names) {
  nlohmann::json columns = nlohmann::json::array();
  for (size_t k = 0; k < split.columns.size(); ++k)
    columns.push_back({{"name", names[k]},
                       {"min", split.columns[k].least},
                       {"mean", split.columns[k].mean},
                       {"max", split.columns[k].most}});
  return columns;
}

nlohmann::json ReportJson(const TextReport& report) {
  using nlohmann::json;
  json splits = json::array(), overlaps = json::array(), problems = json::array();
  for (const TextSplitReport& s : report.splits) {
    splits.push_back({{"split", s.name},
                      {"texts", s.texts},
                      {"per_class", s.per_class},
                      {"columns", ColumnsJson(s, report.class_names)},
                      {"error", s.problems.empty() ? json() : json(s.problems[0])},
                      {"bad_rows", s.bad_rows},
                      {"problems", s.problems}});
    for (const std::string& problem : s.problems) problems.push_back(problem);
  }
  if (problems.empty() && !report.ok()) problems.push_back(report.problem);
  for (const SplitOverlap& o : report.overlaps)
    overlaps.push_back({{"first", o.first}, {"second", o.second}, {"count", o.count}});
  return {{"data", report.directory},
          {"ok", report.ok()},
          {"pairs", report.pairs},
          {"images", report.images},
          {"task", report.kind == LabelKind::kNumbers   ? kRegression
                   : report.kind == LabelKind::kClasses ? kMultiLabel
                                                        : kClassify},
          {"classes", report.class_names.size()},
          {"class_names", report.class_names},
          {"splits", splits},
          {"problems", problems},
          {"overlaps", overlaps},
          {"notes", report.notes}};
}

// `problem` says what is wrong if the report is not ok.
template <class Report>
void PrintReport(const Report& report, const std::string& problem, const CommonOptions& common) {
  PrintJson(common, ReportJson(report));
  std::string text = ToString(report);
  text.pop_back();  // Say ends the line
  if (!report.splits.empty()) Say(common, text);
  if (!report.ok()) Fail("{}", problem);
}

void Check(const std::string& given, const std::string& columns, const std::string& task,
           const CommonOptions& common) {
  ApplyCommonOptions(common);
  const std::string directory = TablesOf(given, task);
  if (HoldsTexts(directory)) {
    const TextColumns asked = ParseTextColumns(columns);
    const TextReport report = [&] {
      const Heartbeat beat(common, "reading and comparing texts");
      return CheckTexts(directory, asked, KindOfData(task, directory, asked));
    }();
    return PrintReport(report, report.problem, common);
  }
  if (!columns.empty()) Fail("--columns {}: {} holds no texts", columns, directory);
  const WorkHook show = ProgressOf(common);
  const DatasetReport report = CheckDataset(directory, Threads(), [&](size_t done, size_t total) {
    if (show) show("looking at", done, total, "images");
  });
  PrintReport(report, report.problem(), common);
}

void AddCheck(CLI::App& data, CommonOptions& common) {
  CLI::App* check = data.add_subcommand(
      "check",
      "report counts, images and texts that cannot be read, and examples that are in two splits");
  auto directory = std::make_shared<std::string>(), columns = std::make_shared<std::string>(),
       task = std::make_shared<std::string>(kTaskByData);
  check->add_option("dir", *directory, "data set directory, or a table of texts")->required();
  check->add_option("--columns", *columns,
                    "of texts: TEXT,LABEL or TEXT,SECOND,LABEL, names or numbers from 1");
  AddTaskOption(*check, *task);
  AddCommonOptions(*check, common);
  HideModelOptions(*check);
  check->footer(
      "Example:\n  graft data check vtab-1k/eurosat\n  graft data check reviews.csv --columns "
      "review,stars\nExit code 1 if something is wrong.");
  check->callback(
      [directory, columns, task, &common] { Check(*directory, *columns, *task, common); });
}

}  // namespace

void AddDataCommand(CLI::App& app, CommonOptions& common) {
  CLI::App* data = app.add_subcommand("data", "make a data set, check one, or split it");
  data->require_subcommand(1);
  data->footer(
      "Examples:\n  graft data make list\n  graft data make shapes --out data/shapes\n"
      "  graft data check vtab-1k/eurosat\n  graft data check text/sst2\n"
      "  graft data split photos/ --holdout 0.2 --out lists/");
  CLI::App* make = data->add_subcommand(
      "make", "write a procedural task in the VTAB-1k layout, without a download");
  auto o = std::make_shared<MakeOptions>();
  make->add_option("task", o->task,
                   "shapes, count, position, color or texture; 'list' tells about them")
      ->required();
  make->add_option("--out", o->out, "directory to create");
  make->add_option("--size", o->size, "side of the images in pixels")->capture_default_str();
  make->add_option("--train", o->counts.train, "images of train800")
      ->check(CLI::Range(1, kMostImages))
      ->capture_default_str();
  make->add_option("--val", o->counts.val, "images of val200")
      ->check(CLI::Range(1, kMostImages))
      ->capture_default_str();
  make->add_option("--test", o->counts.test, "images of test")
      ->check(CLI::Range(1, kMostImages))
      ->capture_default_str();
  AddCommonOptions(*make, common);
  HideModelOptions(*make);
  make->footer(
      "Example:\n  graft data make count --out data/count --size 64 --train 800 --val 200 --test "
      "500");
  make->callback([o, &common] { Make(*o, common); });
  AddCheck(*data, common);
  AddDataSplit(*data, common);
}

}  // namespace graft
