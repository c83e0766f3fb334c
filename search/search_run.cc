#include "search/search_run.h"

#include <cmath>
#include <filesystem>

#include "adapters/base_hash.h"
#include "data/splits.h"
#include "ops/isa.h"
#include "runtime/io/json.h"
#include "runtime/rng.h"
#include "search/candidates.h"
#include "search/search_impl.h"
#include "train/capacity.h"
#include "train/complete_config.h"
#include "train/example_memory.h"
#include "train/parameter_words.h"
#include "train/run_examples.h"
#include "train/same_everywhere.h"

namespace graft {

SearchSummary Searcher::Run() {
  Open();
  LoadSupernet();
  if (hooks_.group) CheckOthers();
  try {
    while (step_ < steps_) Epoch();
    std::vector<Evaluated> all = Evolve(PopulationOf(*space_), search_.evolution,
                                        [&](std::span<Evaluated> next) { Measure(next); });
    if (all.empty()) Fail("{}: nothing was measured", dir_.path());
    if (IsFirst() && !std::filesystem::exists(dir_.file(kMethodFile))) Finish(all);
    return Summary(all);
  } catch (const Interrupted&) {
    SearchSummary summary;
    summary.config = c_, summary.steps = step_, summary.evaluated = std::ssize(measured_);
    summary.interrupted = true;
    return summary;
  }
}

void Searcher::Open() {
  model_ = OpenAdapted(c_);
  checkpoints_.BaseIsOpen();
  for (const std::string& notice : model_.notices) Note(notice);
  for (const std::string& notice : model_.training_notices) Note(notice);
  Dataset data(c_);
  for (const std::string& notice : data.notices()) Note(notice);
  if (!c_.new_head && data.num_classes() == std::ssize(c_.labels))
    data.NumberClassesAs(c_.labels, c_.model);
  train_ = data.Load(c_.train_split, c_.limit, model_, c_);
  validation_ = data.Load(c_.val_split, 0, model_, c_);
  train_->KeepDecoded(), validation_->KeepDecoded();
  const Augment augment = ParseAugment(c_.augment);
  if (augment.any()) train_->SetAugment(augment, static_cast<uint64_t>(c_.seed));
  CheckExamples(data.labels(), train_.get(), validation_.get(), &dir_);
  ShareSpare(c_, SIZE_MAX, train_.get(), validation_.get());
  const int64_t n = static_cast<int64_t>(train_->size());
  steps_per_epoch_ = (n + c_.batch_size - 1) / c_.batch_size;
  steps_ = steps_per_epoch_ * c_.epochs;
  space_.emplace(ParseSpace(search_.space), model_.config, model_.params);
  CheckLimit();
  CheckRates();
  SupernetOptions options{
      .build = {.loss = true,
                .label_smoothing = c_.label_smoothing,
                .drop_path = c_.drop_path,
                .seed = c_.seed,
                .mixed = augment.mixes()},
      .optimizer = OptimizerOf(c_),
      .capacity = ChooseCapacity(model_.config, train_->longest(), c_.batch_size, c_.micro_batch),
      .passes = PassesOf(c_),
      .seed = static_cast<uint64_t>(c_.seed),
      .group = hooks_.group};
  supernet_.emplace(*space_, model_.config, model_.params, std::move(options));
  if (hooks_.on_start)
    hooks_.on_start({&c_, &model_, n, static_cast<int64_t>(validation_->size()), steps_,
                     train_->unit(), space_->genes().size(), space_->log10_candidates(),
                     space_->SmallestParameters()});
}

void Searcher::CheckRates() const {
  std::map<std::string, int> trainable{{"head.weight", 2}, {"head.bias", 1}};
  for (const auto& [name, shape] : space_->storage()) trainable[name] = shape.rank;
  CheckRateRules(c_.lr_scale, trainable), CheckDecayWords(c_.no_decay, trainable);
}

void Searcher::CheckLimit() const {
  const int64_t limit = search_.evolution.max_parameters;
  const int64_t smallest = limit > 0 ? space_->SmallestParameters() : 0;
  if (smallest > limit)
    FailUsage(
        "--max-params {}: the smallest candidate of the space trains {} numbers besides the "
        "head",
        limit, smallest);
}

// --- the supernet

void Searcher::LoadSupernet() {
  const std::string file = dir_.file("supernet.safetensors");
  if (!std::filesystem::exists(file)) return;
  const SafetensorsFile stored = SafetensorsFile::Open(file);
  const ParamStore values = stored.LoadAll();
  for (const auto& [name, entry] : values.entries())
    model_.params.Set(name, entry.shape, entry.values());
  const auto it = stored.metadata().find("graft.search");
  if (it == stored.metadata().end()) Fail("{}: no 'graft.search' in its metadata", file);
  const Json state = ParseJson(it->second, file);
  step_ = GetInt(state, "step", 0, steps_, file);
  loss_sum_ = GetNumber(state, "loss_sum", 0, 1e300, file);
  epochs_ = GetArray(state, "epochs", file);
  const Json& updates = GetObject(state, "updates", file);
  for (const auto& [name, count] : updates.items())
    supernet_->updates()[name] = GetInt(updates, name, 0, steps_, file);
  measured_ = ReadCandidates(dir_.file(kCandidatesFile), *space_);
  const std::string times = dir_.file("seconds.json");
  if (!std::filesystem::exists(times)) return;
  const Json seconds = ReadJson(times);
  train_seconds_ = GetNumber(seconds, "supernet", 0, 1e12, times);
  search_seconds_ = GetNumber(seconds, "candidates", 0, 1e12, times);
}

// Every process has read the files for itself and chooses kernels for its own CPU. Those that would
// compute other numbers must not share a sum.
void Searcher::CheckOthers() {
  std::string kernels;
  if (step_ < steps_)
    for (const StepInfo& info : supernet_->StepOf(supernet_->PathAt(step_)).session().steps())
      kernels += info.impl + " ";
  const std::string mine =
      fmt::format("{} {} {} {} {} {}", step_, measured_.size(), c_.examples_sha256,
                  BaseHash(c_.model), ActiveIsa(), kernels);
  CheckSameEverywhere(*hooks_.group, mine);
  Note(fmt::format("{} processes share each batch and the examples of each candidate",
                   hooks_.group->size()));
}

// Seconds have a file of their own, so that equal searches write equal files otherwise.
void Searcher::SaveSeconds() const {
  dir_.Write("seconds.json",
             DumpJson({{"supernet", train_seconds_}, {"candidates", search_seconds_}}) + "\n");
}

void Searcher::SaveSupernet() {
  checkpoints_.CheckBase();
  const nlohmann::json state{{"step", step_},
                             {"loss_sum", loss_sum_},
                             {"epochs", epochs_},
                             {"updates", supernet_->updates()}};
  dir_.SaveWeights("supernet", model_.params, supernet_->StateNames(),
                   {{"graft.search", DumpJson(state)}, {"graft.space", search_.space}});
  std::string lines;
  for (const nlohmann::json& line : epochs_) lines += DumpJson(line) + "\n";
  dir_.Write("supernet.jsonl", lines);
  SaveSeconds();
}

double Searcher::Step(std::span<const size_t> rows) {
  const double lr = LearningRate(c_, step_, steps_);
  TrainStep& step = supernet_->StepOf(supernet_->PathAt(step_));
  train_->Take(rows.size());
  const Counts& full = step.session().options().capacity;
  if (hooks_.group) hooks_.group->Meet();
  const std::vector<Counts> parts = train_->Parts(full);
  const double share = full.tokens ? static_cast<double>(full.tokens) : 0;
  double work = 0;  // in full micro-batches
  for (const Counts& part : parts)
    work += share > 0 ? static_cast<double>(part.tokens) / share
                      : static_cast<double>(part.sequences) / static_cast<double>(full.sequences);
  step_flops_ = work * step.session().cost(Phase::kMain).flops;
  const StepResult result = step.Run(
      parts, step_, lr,
      [&](int64_t first, int64_t count, int worker) {
        train_->Fill(step.session(), first, count, worker);
      },
      static_cast<double>(train_->Losses()));
  if (!std::isfinite(result.loss))
    checkpoints_.StopNonFinite(fmt::format("the loss is {} at step {} of {} (learning rate {:.3g})",
                                           std::fabs(result.loss), step_ + 1, steps_, lr));
  ++step_;
  return result.loss;
}

void Searcher::Epoch() {
  const int64_t epoch = step_ / steps_per_epoch_;
  const StreamKey key{MakeKey(static_cast<uint64_t>(c_.seed), Purpose::kOrder, ""),
                      static_cast<uint64_t>(epoch), 0};
  const std::vector<int32_t> drawn = Permutation(static_cast<int32_t>(train_->size()), key);
  const std::vector<size_t> order(drawn.begin(), drawn.end());
  const size_t batch = static_cast<size_t>(c_.batch_size);
  const size_t done = static_cast<size_t>(step_ % steps_per_epoch_) * batch;
  train_->SetEpoch(epoch);
  train_->Start({order.begin() + static_cast<ptrdiff_t>(done), order.end()});
  for (size_t at = done; at < order.size(); at += batch) {
    const Clock::time_point start = Clock::now();
    const size_t count = std::min(batch, order.size() - at);
    const double loss = Step({&order[at], count});
    loss_sum_ += loss * static_cast<double>(count);
    const double seconds = Since(start);
    train_seconds_ += seconds, session_seconds_ += seconds;
    examples_ += static_cast<int64_t>(count);
    const double rate = static_cast<double>(examples_) / session_seconds_;
    if (hooks_.on_step)
      hooks_.on_step(
          {step_, steps_, epoch + 1, c_.epochs, loss, LearningRate(c_, step_ - 1, steps_),
           static_cast<double>(count) / seconds, step_flops_ / seconds * 1e-9,
           static_cast<double>(c_.batch_size * (steps_ - step_)) / rate, train_->unit()});
    const bool ends = at + count == order.size();
    if (ends) {
      const double mean = std::exchange(loss_sum_, 0) / static_cast<double>(train_->size());
      epochs_.push_back({{"epoch", epoch + 1}, {"step", step_}, {"train_loss", mean}});
      if (hooks_.on_epoch)
        hooks_.on_epoch({epoch + 1, c_.epochs, mean, session_seconds_, rate, train_->unit()});
    }
    const bool stop = Stops();
    if (stop || ends || (c_.save_every && step_ % c_.save_every == 0)) SaveSupernet();
    if (stop) throw Interrupted();
  }
}

RunConfig CompleteSearch(RunConfig config, const SearchConfig& search,
                         std::vector<std::string>* notes) {
  CheckEvolution(search.evolution);
  config.method = ToString(SampleOf(ParseSpace(search.space)));
  RunConfig c = CompleteRunConfig(std::move(config), notes);
  if (c.val_split.empty())
    FailUsage(
        "search: candidates are compared on a validation split, and there is none; hint: "
        "--val-split, or --holdout 0.2");
  if (c.holdout == 0 && PurposeOf(c.val_split) == SplitPurpose::kTest)
    FailUsage(
        "--val-split {}: what is chosen on the test split cannot be tested any more; hint: "
        "--holdout 0.2",
        c.val_split);
  return c;
}

SearchSummary Search(RunDir& dir, const SearchConfig& search, const SearchHooks& hooks) {
  SearchSummary summary;
  const auto run = [&] {
    dir.Lock();
    summary = Searcher(dir, search, hooks).Run();
  };
  hooks.group ? hooks.group->Together(run) : run();
  return summary;
}

}  // namespace graft
