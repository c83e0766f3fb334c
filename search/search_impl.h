// What Search (search_run.h) is made of: search_run.cc has the supernet, search_result.cc the
// candidates and what becomes of the best.
#pragma once
#include <chrono>
#include <memory>
#include <optional>

#include "runtime/io/json.h"
#include "runtime/process_group.h"
#include "search/evolution.h"
#include "search/search_run.h"
#include "search/shared_prefix.h"
#include "search/supernet.h"
#include "train/checkpoints.h"

namespace graft {

class Searcher {
 public:
  Searcher(RunDir& dir, const SearchConfig& search, const SearchHooks& hooks)
      : dir_(dir), hooks_(hooks), c_(dir.config()), search_(search), checkpoints_(dir) {}

  SearchSummary Run();

 private:
  struct Interrupted {};  // and saved
  using Clock = std::chrono::steady_clock;
  static double Since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
  }

  void Open();
  void CheckLimit() const;
  void CheckRates() const;
  bool IsFirst() const { return !hooks_.group || hooks_.group->IsFirst(); }
  // Whether this process, or another one of the group, is to stop. All ask at the same points.
  bool Stops() const {
    const bool mine = hooks_.stop && hooks_.stop();
    return hooks_.group ? hooks_.group->Meet(mine) : mine;
  }
  void LoadSupernet();
  void CheckOthers();
  void SaveSupernet();
  void SaveSeconds() const;
  void Epoch();
  double Step(std::span<const size_t> rows);
  void Measure(std::span<Evaluated> generation);
  void MeasureNew(std::span<Evaluated> candidates);
  Graph GraphOf(const Evaluated& e, ParamStore* params) const {  // as inference runs it
    *params = CandidateParams(*space_, model_.config, e.genes, model_.params);
    return FoldedCandidate(model_.config, space_->MethodOf(e.genes), *params,
                           static_cast<uint64_t>(c_.seed), InferencePasses(PassesOf(c_)));
  }
  void Finish(const std::vector<Evaluated>& all);
  void WriteRun(const Evaluated& best);
  SearchSummary Summary(const std::vector<Evaluated>& all) const;
  void Note(const std::string& notice) const {
    if (!notice.empty() && hooks_.note) hooks_.note("note: " + notice);
  }

  RunDir& dir_;
  const SearchHooks& hooks_;
  const RunConfig& c_;
  const SearchConfig& search_;
  Checkpoints checkpoints_;
  LoadedModel model_;
  std::unique_ptr<BatchSource> train_, validation_;
  std::optional<BoundSpace> space_;
  std::optional<Supernet> supernet_;
  std::optional<SharedPrefixes> prefixes_;
  std::vector<Evaluated> measured_;  // in order; of an earlier session, too
  size_t replayed_ = 0;              // of them, what this session's evolution has asked for
  nlohmann::json epochs_ = nlohmann::json::array();
  int64_t step_ = 0, steps_ = 0, steps_per_epoch_ = 0;
  double loss_sum_ = 0, train_seconds_ = 0, search_seconds_ = 0, session_seconds_ = 0;
  double step_flops_ = 0;  // of the last step
  int64_t examples_ = 0;
};

}  // namespace graft
