#include "train/run_dir.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "adapters/adapter_file.h"
#include "runtime/io/atomic_file.h"
#include "runtime/io/files_read.h"
#include "runtime/io/fresh_directory.h"
#include "runtime/io/json.h"
#include "runtime/io/safetensors.h"
#include "train/event_file.h"
#include "train/run_config_json.h"

namespace graft {
namespace {

bool Exists(const std::string& path) {
  struct stat s;
  return stat(path.c_str(), &s) == 0;
}

std::vector<TensorToWrite> Tensors(const ParamStore& params, std::vector<std::string> names) {
  std::sort(names.begin(), names.end());
  std::vector<TensorToWrite> tensors;
  for (const std::string& name : names) tensors.push_back(ToWrite(name, params.Get(name)));
  return tensors;
}

// Refuses names in config.json that are not UTF-8: written anew they would name another file, or
// none.
void RefuseOtherEncodings(const RunConfig& config) {
  RunConfig::Visit(config, [](const char* name, const auto& field) {
    try {
      DumpJson(field);
    } catch (const Error&) {
      std::string flag = name;
      std::replace(flag.begin(), flag.end(), '_', '-');
      if (flag == "labels") flag = "data (names of classes)";
      Fail("--{}: expected UTF-8, as a run's config.json is, found {}; hint: rename it", flag,
           ShowJson(field));
    }
  });
}

double WallTime() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

constexpr const char* kConfig = "config.json";
constexpr uint64_t kMaxMetricsBytes = uint64_t{1} << 30;

}  // namespace

RunDir RunDir::Create(const std::string& path, const RunConfig& config) {
  RefuseOtherEncodings(config);
  RunDir dir(path, config, false);
  dir.existed_ = Exists(path);
  CreateFreshDirectory(path);
  dir.Lock();
  CreateFreshDirectory(path);  // still, now that nobody else can begin there
  dir.WriteConfig();
  return dir;
}

RunDir RunDir::Follow(const std::string& path, bool resumed) {
  RunDir dir = OpenSearch(path);  // what is no run the other process has refused
  dir.follows_ = true, dir.resumed_ = resumed;
  return dir;
}

void RunDir::Lock() {
  if (locked_ || follows_) return;
  std::shared_ptr<const Directory> directory = Directory::Open(path_);
  if (!directory->Lock()) Fail("{}: another process is training in this run directory", path_);
  locked_ = std::move(directory);
}

FilePlace RunDir::Place(const std::string& name) const {
  GRAFT_CHECK(locked_, "{} is not locked", path_);
  CheckNotRemoved();
  // rm -r of a run that writes meanwhile empties the directory, and leaves it.
  if (name != kConfig && !locked_->Has(kConfig))
    Fail("{}: {} was removed while it trained; the run ends, as nothing could go on with it", path_,
         kConfig);
  return {locked_, name, true};
}

void RunDir::CheckNotRemoved() const {
  if (locked_->Removed())
    Fail("{}: the run directory was removed while it trained; the run ends, and nothing is kept",
         path_);
}

void RunDir::Write(const std::string& name, const std::string& text) const {
  if (follows_) return;
  WriteFileAtomically(Place(name), text);
}

void RunDir::WriteConfig() const { Write(kConfig, DumpJson(ToJson(config_), 2) + "\n"); }

void RunDir::RemoveIfNothingSaved() {
  if (follows_) return;
  for (const char* name :
       {"state.safetensors", "last.safetensors", "best.safetensors", "metrics.jsonl"})
    if (locked_->Has(name)) return;
  for (const char* name : {"config.json", "plan.json", "summary.json", kEventFile})
    locked_->Remove(name);
  if (!existed_ && locked_->Named()) rmdir(path_.c_str());  // if it is empty now
}

void RunDir::RecordBase(const std::string& sha256) {
  config_.base_sha256 = sha256;
  WriteConfig();
}

void RunDir::RecordExamples(const std::string& sha256, const std::string& contents) {
  config_.examples_sha256 = sha256, config_.contents_sha256 = contents;
  WriteConfig();
}

void RunDir::RecordEpochs(int64_t epochs) {
  if (config_.schedule_epochs == 0) config_.schedule_epochs = config_.epochs;
  config_.epochs = epochs;
  WriteConfig();
}

void RunDir::RecordMethod(const std::string& method) {
  config_.method = method;
  WriteConfig();
}

RunDir RunDir::Open(const std::string& path) {
  RefuseUnfinishedSearch(path);
  return OpenSearch(path);
}

RunDir RunDir::OpenSearch(const std::string& path) {
  const std::string file = path + "/config.json";
  if (!Exists(file)) FailNoRun(path);
  RecordRead(path);
  return RunDir(path, RunConfigFromJson(ReadJson(file), file), true);
}

void RunDir::SaveState(const ParamStore& params, const std::vector<std::string>& names,
                       const Progress& p) const {
  if (follows_) return;
  const StringMap metadata{{"graft.step", std::to_string(p.step)},
                           {"graft.best_metric", fmt::format("{}", p.best_metric)},
                           {"graft.best_epoch", std::to_string(p.best_epoch)},
                           {"graft.epochs", std::to_string(p.epochs)},
                           {"graft.epoch_loss_sum", fmt::format("{}", p.epoch_loss_sum)},
                           {"graft.seconds", fmt::format("{}", p.seconds)},
                           {"graft.last_loss", fmt::format("{}", p.last_loss)},
                           {"graft.val_accuracy", fmt::format("{}", p.val_accuracy)},
                           {"graft.finished", p.finished ? "1" : "0"}};
  WriteSafetensors(Place("state.safetensors"), Tensors(params, names), metadata);
  CheckNamed();
}

void RunDir::CheckNamed() const {
  if (!locked_ || locked_->Named()) return;
  CheckNotRemoved();
  const std::string now = locked_->Now();
  Fail(
      "{}: the run directory was moved while it trained; the run ends, with its state in {} and "
      "nowhere else; hint: graft train --resume {}",
      path_, now, ShellWord(now));
}

bool RunDir::HasState() const { return Exists(file("state.safetensors")); }

std::optional<std::vector<std::string>> RunDir::LoadState(ParamStore& params, Progress& p) const {
  const std::string path = file("state.safetensors");
  CheckNamed();  // what the path leads to is read
  if (!HasState()) return {};
  const SafetensorsFile state = SafetensorsFile::Open(path);
  auto number = [&](const char* key) {
    const auto it = state.metadata().find(key);
    if (it == state.metadata().end()) Fail("{}: no '{}' in its metadata", path, key);
    const std::string& text = it->second;
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value))
      Fail("{}: '{}' is '{}', no number", path, key, text);
    return value;
  };
  const auto whole = [&](const char* key) {
    const double value = number(key);
    if (!(value >= 0 && value <= 0x1p53 && value == std::floor(value)))
      Fail("{}: '{}' is {}, expected a whole number", path, key, value);
    return static_cast<int64_t>(value);
  };
  p.step = whole("graft.step");
  if (state.metadata().contains("graft.best_epoch")) {  // not in states of earlier versions
    p.best_epoch = whole("graft.best_epoch");
    p.epochs = whole("graft.epochs");
  }
  p.best_metric = number("graft.best_metric");
  p.epoch_loss_sum = number("graft.epoch_loss_sum");
  p.seconds = number("graft.seconds");
  p.last_loss = number("graft.last_loss");
  p.val_accuracy = number("graft.val_accuracy");
  p.finished = number("graft.finished") != 0;
  std::vector<std::string> names;
  const bool of_model = !params.entries().empty();
  for (const FileTensor& tensor : state.tensors()) {
    // An entry of optimizer state is called opt.KIND.PARAMETER and has the parameter's shape. A
    // name that no graph has is left as it is, and refused by name later.
    const std::string& name = tensor.name;
    const size_t dot = name.starts_with("opt.") ? name.find('.', 4) : std::string::npos;
    const ParamStore::Entry* like = params.Find(dot == name.npos ? name : name.substr(dot + 1));
    if (of_model && like)
      LoadTrained(state, tensor, Extents(like->shape), params);
    else
      state.Load(tensor, name, &params);
    names.push_back(tensor.name);
  }
  return names;
}

void RunDir::SaveWeights(const std::string& which, const ParamStore& params,
                         const std::vector<std::string>& names, StringMap more) const {
  if (follows_) return;
  more.emplace("graft.method", config_.method);
  WriteSafetensors(Place(which + ".safetensors"), Tensors(params, names), more);
}

void RunDir::Append(const std::string& name, std::string_view start, std::string text) const {
  if (follows_) return;
  const FilePlace place = Place(name);
  const int fd = openat(place.directory->fd(), place.name.c_str(),
                        O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
  struct stat s;
  if (fd >= 0 && fstat(fd, &s) == 0 && s.st_size == 0) text.insert(0, start);
  std::FILE* f = fd < 0 ? nullptr : fdopen(fd, "a");
  // The state that follows must not know of epochs that a loss of power takes out of this file.
  const bool ok = f && std::fwrite(text.data(), 1, text.size(), f) == text.size() &&
                  std::fflush(f) == 0 && (fdatasync(fileno(f)) == 0 || errno == EINVAL);
  if (fd >= 0 && !f) close(fd);
  if (!f || std::fclose(f) != 0 || !ok)
    Fail("{}: cannot write: {}", place.path, std::strerror(errno));
}

void RunDir::AppendMetrics(const std::string& line) const {
  Append("metrics.jsonl", "", line + "\n");
  const double now = WallTime();
  Append(kEventFile, EventFileStart(now), EventRecord(ParseJson(line, "metrics.jsonl"), now));
}

void RunDir::TruncateMetrics(int64_t step) const {
  if (follows_) return;
  const std::string path = file("metrics.jsonl");
  if (!Exists(path)) return locked_->Remove(kEventFile);  // of which it would be
  const std::string text = ReadFile(path, kMaxMetricsBytes);
  std::string kept;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin);
    if (end == std::string::npos) break;  // a torn last line
    const nlohmann::json line =
        nlohmann::json::parse(text.substr(begin, end - begin), nullptr, false);
    const auto at = line.is_object() ? line.find("step") : line.end();
    if (at != line.end() && at->is_number_integer() && at->get<int64_t>() <= step)
      kept += text.substr(begin, end + 1 - begin);
    begin = end + 1;
  }
  Write("metrics.jsonl", kept);
  // Points keep the wall times that they had; those of a run without an events file get the present
  // one.
  const std::string events = file(kEventFile);
  const std::string old = Exists(events) ? ReadFile(events, kMaxMetricsBytes) : "";
  Write(kEventFile, EventFile(kept, EventTimes(old), WallTime()));
}

std::optional<RunConfig> RunOf(const ModelChoice& choice) {
  const std::string& path = choice.run.empty() ? choice.adapter : choice.run;
  if (path.empty() || (choice.run.empty() && !IsRunDirectory(path))) return {};
  return RunDir::Open(path).config();
}

}  // namespace graft
