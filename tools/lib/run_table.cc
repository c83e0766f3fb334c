#include "tools/lib/run_table.h"

#include <algorithm>
#include <filesystem>

#include "runtime/io/atomic_file.h"
#include "runtime/io/json.h"
#include "runtime/io/listing.h"
#include "runtime/io/near_path.h"
#include "runtime/utf8.h"
#include "tools/lib/progress_meter.h"
#include "tools/lib/report.h"
#include "train/run_summary.h"
#include "train/task_metrics.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMostMetricsBytes = uint64_t{1} << 28;
constexpr const char* kSearchResult = "candidates.json";  // what a search writes at its end

void Collect(const fs::path& directory, int depth, std::vector<std::string>* runs) {
  constexpr int kDeepest = 16;
  std::error_code error;
  if (fs::exists(directory / "config.json", error)) {
    try {
      if (IsRunDirectory(directory.string())) return runs->push_back(directory.string());
    } catch (const Error&) {  // of a run that is damaged, or of something else
      if (fs::exists(directory / "plan.json", error)) return runs->push_back(directory.string());
    }
  }
  if (depth == kDeepest) return;
  for (const DirectoryEntry& entry : ListIfReadable(directory.string()))
    if (entry.is_directory() && !entry.link && !entry.name.starts_with("."))
      Collect(directory / entry.name, depth + 1, runs);
}

nlohmann::json At(const nlohmann::json& object, const std::string& key) {
  const auto it = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && it != object.end() ? *it : nlohmann::json();
}

// "val_loss" -> "loss"
std::string MetricOf(const nlohmann::json& run) {
  const nlohmann::json metric = At(run, "metric");
  const std::string name = metric.is_string() ? metric.get<std::string>() : "";
  return name.starts_with("val_") ? name.substr(4) : name;
}

bool SmallerIsBest(const nlohmann::json& run) { return SmallerIsBetter(MetricOf(run)); }

// best, best_epoch, last and seconds, of all epochs.
void AddMetrics(const std::vector<nlohmann::json>& lines, nlohmann::json* run) {
  nlohmann::json& r = *run;
  const std::string metric = At(r, "metric").is_string() ? r["metric"].get<std::string>() : "";
  for (const nlohmann::json& line : lines) {
    r["epochs_done"] = At(line, "epoch"), r["train_loss"] = At(line, "train_loss");
    if (At(r, "seconds").is_null() || At(line, "seconds") > r["seconds"])
      r["seconds"] = At(line, "seconds");
    const nlohmann::json value = At(line, metric);
    if (!value.is_number()) continue;
    r["last"] = value;
    const bool better =
        r["best"].is_null() || (SmallerIsBest(r) ? value < r["best"] : value > r["best"]);
    if (better) r["best"] = value, r["best_epoch"] = At(line, "epoch");
  }
}

std::string StatusOf(const nlohmann::json& run, const nlohmann::json& summary) {
  if (At(summary, "stopped_early") == true) return "stopped early";
  if (At(summary, "finished") == true) return "finished";
  if (summary.is_object()) return "not finished";
  return At(run, "epochs_done") == At(run, "epochs") ? "finished" : "not finished";
}

std::string ShortPath(const std::string& path) {
  if (path.starts_with("init:")) return path;
  const fs::path p(path);
  return (p.has_filename() ? p.filename() : p.parent_path().filename()).string();
}

std::string Cell(const nlohmann::json& run, const std::string& column) {
  const nlohmann::json value = At(run, column);
  if (value.is_null()) return "-";
  if (value.is_string()) return value;
  if (!value.is_number()) return "-";  // of a damaged file
  if (column == "trainable_parameters") return Grouped(value.get<int64_t>());
  if (column == "peak_memory_bytes") return Megabytes(value.get<size_t>());
  if (column == "seconds") return DurationText(value.get<double>());
  const double number = value.get<double>();
  if (column == "lr") return fmt::format("{:g}", number);
  if (column != "best" && column != "last") return value.dump();
  return IsShare(MetricOf(run)) ? Percent(number) : MeasureText(number);
}

}  // namespace

std::vector<nlohmann::json> ReadJsonLines(const std::string& file, size_t* damaged) {
  std::vector<nlohmann::json> lines;
  if (!fs::exists(file)) return lines;
  const std::string text = ReadFile(file, kMostMetricsBytes);
  for (size_t begin = 0, end; (end = text.find('\n', begin)) != text.npos; begin = end + 1) {
    nlohmann::json line = nlohmann::json::parse(text.substr(begin, end - begin), nullptr, false);
    if (line.is_object())
      lines.push_back(std::move(line));
    else if (damaged)
      ++*damaged;
  }
  return lines;
}

std::vector<nlohmann::json> ReadMetrics(const std::string& run, size_t* damaged) {
  return ReadJsonLines(run + "/metrics.jsonl", damaged);
}

std::vector<std::string> FindRuns(const std::string& root) {
  if (!fs::is_directory(root)) Fail("{}: no such directory{}", root, DidYouMeanPath(root));
  std::vector<std::string> runs;
  Collect(root, 0, &runs);
  return runs;
}

const std::vector<std::string>& RunColumns() {
  static const std::vector<std::string> kColumns{"run",
                                                 "method",
                                                 "model",
                                                 "data",
                                                 "lr",
                                                 "epochs",
                                                 "trainable_parameters",
                                                 "metric",
                                                 "best",
                                                 "last",
                                                 "seconds",
                                                 "peak_memory_bytes",
                                                 "status"};
  return kColumns;
}

// What the rows of --json have beside the columns of the table.
constexpr const char* kOfTheConfig[] = {"train_split", "val_split", "seed",
                                        "batch_size",  "schedule",  "weight_decay",
                                        "dtype"};
constexpr const char* kOfTheSummary[] = {"step", "steps", "examples_per_second"};
constexpr const char* kOfTheMetrics[] = {"epochs_done", "train_loss", "best_epoch"};

nlohmann::json DescribeRun(const std::string& run) {
  nlohmann::json row;
  for (const std::string& column : RunColumns()) row[column] = nullptr;
  row["run"] = run;
  try {
    const nlohmann::json config = ReadJson(run + "/config.json");
    for (const char* key : {"method", "model", "data", "lr", "epochs"}) row[key] = At(config, key);
    for (const char* key : kOfTheConfig) row[key] = At(config, key);
    row["task"] = At(config, "task").is_string() ? config["task"] : nlohmann::json(kClassify);
    if (At(row, "val_split") != "") {
      const nlohmann::json metric = At(config, "best_metric");
      row["metric"] = "val_" + (metric.is_string() ? metric.get<std::string>() : "accuracy");
    }
    const nlohmann::json summary = ReadSummary(run);
    for (const char* key : {"trainable_parameters", "seconds", "peak_memory_bytes"})
      row[key] = At(summary, key);
    for (const char* key : kOfTheSummary) row[key] = At(summary, key);
    AddMetrics(ReadMetrics(run), &row);
    if (row["best"].is_null() && row["metric"].is_string())  // of a search, measured at its end
      row["best"] = At(summary, "best"), row["best_epoch"] = At(summary, "best_epoch");
    row["status"] = StatusOf(row, summary);
    if (row["status"] == "not finished" && row["epochs_done"].is_null() &&
        fs::exists(run + "/" + kSearchResult))
      row["status"] = "searched";
  } catch (const Error& e) {
    row["error"] = e.what(), row["status"] = "damaged";
  }
  return row;
}

void SortRuns(std::vector<nlohmann::json>* runs, const std::string& column, bool reverse) {
  std::vector<std::string> columns = RunColumns();
  columns.insert(columns.end(), std::begin(kOfTheConfig), std::end(kOfTheConfig));
  columns.insert(columns.end(), std::begin(kOfTheSummary), std::end(kOfTheSummary));
  columns.insert(columns.end(), std::begin(kOfTheMetrics), std::end(kOfTheMetrics));
  if (std::ranges::find(columns, column) == columns.end())
    FailUsage("--sort: no column '{}'{}", column, DidYouMean(column, columns));
  const bool quality = column == "best" || column == "last";
  const auto before = [&](const nlohmann::json& a, const nlohmann::json& b) {
    const nlohmann::json x = At(a, column), y = At(b, column);
    if (x.is_null() || y.is_null()) return !x.is_null() && y.is_null();
    if (quality && SmallerIsBest(a) != SmallerIsBest(b)) return SmallerIsBest(b);
    const bool larger_first = (quality && !SmallerIsBest(a)) != reverse;
    return larger_first ? y < x : x < y;
  };
  std::stable_sort(runs->begin(), runs->end(), before);
}

std::string CsvField(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == text.npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

std::string RunsCsv(const std::vector<nlohmann::json>& runs) {
  std::string text = fmt::format("{}\n", fmt::join(RunColumns(), ","));
  for (const nlohmann::json& run : runs) {
    std::string line;
    for (const std::string& column : RunColumns()) {
      const nlohmann::json value = At(run, column);
      if (&column != &RunColumns().front()) line += ",";
      if (!value.is_null())
        line += CsvField(value.is_string() ? EscapeControls(value.get<std::string>(), "\n\t")
                                           : value.dump());
    }
    text += line + "\n";
  }
  return text;
}

// Places in RunColumns: what is worth least on a narrow terminal goes first.
constexpr size_t kDrop[] = {11, 12, 6, 2, 3, 10, 9, 5, 7, 4};
constexpr TextTable::Shortened kShorten[] = {{0, CutAt::kBegin}, {1}, {2}, {3}};

std::string RunsText(const std::vector<nlohmann::json>& runs, const std::string& root,
                     size_t columns) {
  TextTable table({4, 5, 6, 8, 9, 10, 11});
  table.Add({"run", "method", "model", "data", "lr", "epochs", "trainable", "metric", "best",
             "last", "time", "memory", "status"});
  for (const nlohmann::json& run : runs) {
    std::vector<std::string> cells;
    for (const std::string& column : RunColumns()) cells.push_back(Cell(run, column));
    cells[0] = fs::path(cells[0]).lexically_relative(root).string();
    if (cells[0] == ".") cells[0] = ShortPath(fs::absolute(root).lexically_normal().string());
    for (const size_t path : {2, 3}) cells[path] = ShortPath(cells[path]);
    if (cells[7].starts_with("val_")) cells[7] = cells[7].substr(4);
    const nlohmann::json done = At(run, "epochs_done");
    if (done.is_number() && done != At(run, "epochs")) cells[5] = done.dump() + "/" + cells[5];
    table.Add(std::move(cells));
  }
  if (columns == 0) return table.Lines("");
  const std::vector<std::string> left_out = table.FitTo(columns, kDrop, kShorten);
  if (left_out.empty()) return table.Lines("");
  return fmt::format("{}\nnot shown: {}; hint: a wider terminal, or --csv", table.Lines(""),
                     fmt::join(left_out, ", "));
}

}  // namespace graft
