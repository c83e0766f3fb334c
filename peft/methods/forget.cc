// F-Learning, forget before learning (Ni et al. 2024, arXiv 2311.08011): what a run on the old
// knowledge has changed in the base is taken away from it, then another method trains,
//
//   W <- W - lambda (W_old - W_0),   W_0 the base, W_old the base with the run merged into it
//
// The head takes no part. W is W_0 unless another term has edited it, such as noisytune. The run is
// read whenever this one is opened; its checkpoint must be the one that training began with.
#include "peft/methods/methods.h"
#include "peft/parameters.h"

namespace graft {
namespace {

PassReport ApplyForget(const MethodArgs& a) {
  PassReport report = StartReport(a, "forget");
  const std::string& run = a.Text("run");
  const double lambda = a.Number("lambda", -100, 100);
  if (run.empty())
    FailUsage("option 'run' is missing: a run that was trained on the old knowledge");
  const bool once = EditOnce(a.params, "forget");
  report.rewrites = 1;
  if (!once) return FinishReport(a, report);
  if (!a.context.merged_run) FailUsage("option 'run': no runs can be opened here");
  // The change is that of the weights as the run found them, whatever other terms made of them.
  GRAFT_CHECK(a.context.unedited, "a term that edits weights");
  const ParamStore& base = *a.context.unedited;
  const ParamStore old = a.context.merged_run(run, a.Text("sha256"), base);
  for (ValueId v : a.g.Leaves(Role::kParam)) {
    const std::string& name = a.g.value(v).name;
    if (name.starts_with("head.") || !old.Has(name)) continue;
    const std::span<const float> is = a.params.values(name), plain = base.values(name),
                                 was = old.values(name);
    GRAFT_CHECK(is.size() == was.size() && is.size() == plain.size(), "'{}'", name);
    if (plain.data() == was.data()) continue;
    std::vector<float> edited(is.size());
    for (size_t i = 0; i < is.size(); ++i)
      edited[i] = static_cast<float>(is[i] - lambda * (static_cast<double>(was[i]) - plain[i]));
    a.params.Set(name, base.shape(name), edited);
    ++report.rewrites;
  }
  return FinishReport(a, report);
}

}  // namespace

const MethodRecord kForgetMethod{
    .name = "forget",
    .summary = "a run's change is taken away from the base before training (Ni et al. 2024)",
    .equation = "W <- W - lambda (W_old - W)",
    .formula = "0",
    .source = "Ni et al. 2024, arXiv 2311.08011",
    .options =
        +[] {
          return std::vector<MethodOption>{
              {"run", "", "a run on the old knowledge, with a method that folds"},
              {"lambda", "1", "how much of its change is taken away"},
              {"sha256", "", "of the run's checkpoint; filled in when training begins"}};
        },
    .apply = ApplyForget,
    .count = +[](const MethodArgs&) -> int64_t { return 0; },
    .folds = Folds::kYes,
    .why = "the change is in the weights",
    .learning_rate = 1e-2,
    .phase = MethodPhase::kWeights};

}  // namespace graft
