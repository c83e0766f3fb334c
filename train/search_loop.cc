// The loop of Trainer (trainer_impl.h) for methods that are searched: a generation of candidates is
// a step, 100 candidates are an epoch, at whose end the best one so far is validated and saved.
#include <chrono>

#include "ops/optimise.h"
#include "train/trainer_impl.h"

namespace graft {
namespace {

using Clock = std::chrono::steady_clock;

// Reads the capacity that the losses of a run are computed with: it decides their last bits.
Counts ReadCapacity(const std::string& file) {
  const Json plan = ReadJson(file);
  const auto number = [&](const char* key) {
    const auto it = plan.is_object() ? plan.find(key) : plan.end();
    if (it == plan.end() || !it->is_number_integer() || it->template get<int64_t>() < 1)
      Fail("{}: '{}': expected a whole number of at least 1", file, key);
    return it->template get<int64_t>();
  };
  return {number("sequences"), number("tokens")};
}

}  // namespace

void Trainer::CompileSearch(const MethodTerm& term) {
  const std::string plan = dir_.file("plan.json");
  Graph graph = SearchGraph(graph_);
  SessionOptions options = InferenceOptions(graph, model_.params, model_.config, *train_,
                                            c_.memory_budget, PassesOf(c_));
  if (dir_.resumed() && std::filesystem::exists(plan)) options.capacity = ReadCapacity(plan);
  InferencePasses(PassesOf(c_)).Run(graph);
  search_.emplace(graph, model_.params, options, LimitsOf(term), static_cast<uint64_t>(c_.seed));
  TellProducts(search_->session().graph());
  if (loaded_state_) search_->Load(model_.params);
  RecordNames(graph_, {kSearched}, search_->Save(&model_.params));
  if (validation_) {
    const Graph inference =
        EvaluationGraph(model_.config, method_, model_.params, static_cast<uint64_t>(c_.seed));
    evaluator_.emplace(
        inference, model_.params,
        InferenceOptions(inference, model_.params, model_.config, *validation_, c_.memory_budget,
                         PassesOf(c_), search_->session().planned_bytes()),
        PassesOf(c_));
  }
  const nlohmann::json json{{"sequences", options.capacity.sequences},
                            {"tokens", options.capacity.tokens}};
  dir_.Write("plan.json", DumpJson(json, 1) + "\n");
  WriteSummary();
  if (hooks_.on_plan)
    hooks_.on_plan(
        {search_->session().planned_bytes(), options.capacity.sequences, false, &c_, products_});
}

void Trainer::SaveSearch() {
  search_->PutBest(&model_.params);
  search_->Save(&model_.params);
  SaveState();
}

void Trainer::OneRound() {
  const int64_t end = std::min(steps_, (epoch_of(progress_.step) + 1) * steps_per_epoch_);
  const int64_t computed = search_->search().population * static_cast<int64_t>(train_->size());
  double loss = 0;
  while (progress_.step < end) {
    const Clock::time_point start = Clock::now();
    loss = search_->Generation(*train_);
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    ++progress_.step;
    progress_.seconds += seconds, session_seconds_ += seconds;
    examples_seen_ += computed;
    const double each = session_seconds_ / static_cast<double>(examples_seen_ / computed);
    if (hooks_.on_step)
      hooks_.on_step({progress_.step, steps_, epoch_of(progress_.step - 1) + 1,
                      epoch_of(steps_ - 1) + 1, loss, search_->search().sigma,
                      static_cast<double>(computed) / seconds,
                      search_->session().cost(Phase::kMain).flops *
                          static_cast<double>(search_->parts()) / seconds * 1e-9,
                      each * static_cast<double>(steps_ - progress_.step), train_->unit()});
    if (progress_.step == end) break;
    if (hooks_.stop && hooks_.stop()) {
      interrupted_ = true;
      return SaveSearch();
    }
    if (c_.save_every && progress_.step % c_.save_every == 0) SaveSearch();
  }
  search_->PutBest(&model_.params);
  progress_.last_loss = search_->search().best.loss;
  EpochReport report{epoch_of(end - 1) + 1,
                     epoch_of(steps_ - 1) + 1,
                     progress_.last_loss,
                     session_seconds_,
                     static_cast<double>(examples_seen_) / std::max(session_seconds_, 1e-9),
                     train_->unit()};
  EndRound(report, {{"epoch", report.epoch},
                    {"step", progress_.step},
                    {"candidates", progress_.step * search_->search().population},
                    {"train_loss", progress_.last_loss},
                    {"sigma", search_->search().sigma},
                    {"seconds", progress_.seconds}});
  interrupted_ = progress_.step < steps_ && hooks_.stop && hooks_.stop();
  SaveSearch();
}

}  // namespace graft
