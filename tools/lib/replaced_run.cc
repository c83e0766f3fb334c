#include "tools/lib/replaced_run.h"

#include <algorithm>
#include <array>

#include "adapters/adapter_file.h"
#include "runtime/io/files_read.h"
#include "runtime/io/listing.h"
#include "train/event_file.h"
#include "train/run_dir.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 8> kFiles = {
    "config.json",      "plan.json",        "summary.json",      "metrics.jsonl",
    "last.safetensors", "best.safetensors", "state.safetensors", kEventFile};

bool HoldsNothing(const fs::path& path) {
  std::error_code none;
  return !fs::exists(path, none) || fs::is_empty(path, none);
}

bool HasSaved(const fs::path& run) {
  std::error_code none;
  return std::ranges::any_of(
      std::array{"state.safetensors", "last.safetensors", "best.safetensors"},
      [&](const char* name) { return fs::exists(run / name, none); });
}

void CheckIsRunAlone(const fs::path& path) {
  if (!IsRunDirectory(path.string()))
    Fail("{}: no run; --force replaces runs only", path.string());
  for (const auto& [name, kind, link] : ListDirectory(path.string()))
    if (std::ranges::find(kFiles, name) == kFiles.end() && !name.ends_with(".graft-tmp"))
      Fail("{}: holds {}, which is not a run's; --force replaces runs only", path.string(), name);
  RunDir::Open(path.string()).Lock();  // Error if somebody trains in it
}

void RemoveFiles(const fs::path& run) {
  std::error_code none;
  for (const std::string_view name : kFiles) fs::remove(run / name, none);
}

}  // namespace

ReplacedRun::ReplacedRun(const std::string& run) {
  const fs::path whole = fs::absolute(run).lexically_normal();
  run_ = whole.has_filename() ? whole : whole.parent_path();
  aside_ = run_.parent_path() / fmt::format(".{}.replaced.graft-tmp", run_.filename().string());
  std::error_code error;
  if (fs::exists(aside_, error)) {  // of a command that was killed
    if (HasSaved(run_)) {
      fs::remove_all(aside_, error);
    } else {
      if (!HoldsNothing(run_)) CheckIsRunAlone(run_);
      fs::remove_all(run_, error);
      fs::rename(aside_, run_, error);
    }
  }
  if (HoldsNothing(run_)) return;
  RefuseOverwriting(run);
  for (const std::string_view name : kFiles) RefuseOverwriting((run_ / name).string());  // --config
  CheckIsRunAlone(run_);
  if (!fs::is_symlink(run_, error)) fs::rename(run_, aside_, error);
  waits_ = fs::exists(aside_);
  if (!waits_) RemoveFiles(run_);  // nothing can be put beside it, or it is a link to its place
}

ReplacedRun::~ReplacedRun() {
  if (!waits_) return;
  std::error_code none;
  if (HasSaved(run_)) {
    fs::remove_all(aside_, none);
    return;
  }
  RemoveFiles(run_);
  fs::remove(run_, none);
  fs::rename(aside_, run_, none);
}

}  // namespace graft
