// Contextual calibration (Zhao et al. 2021, arXiv 2102.09690): after training, the logits are
// shifted so that inputs that say nothing have equal probabilities,
//
//   z <- z - log p_cf,   p_cf [K] the mean of softmax(z) over the blank inputs
//
// Texts: "", "[MASK]", "N/A"; images: mid-grey. Nothing trains by it; the K numbers are part of the
// adapter, and folding adds them to the head's bias.
#include "ops/ops.h"
#include "peft/methods/methods.h"
#include "peft/surgery.h"

namespace graft {
namespace {

PassReport ApplyCalibration(const MethodArgs& a) {
  PassReport report = StartReport(a, "calibration");
  a.Choice("inputs", {"blank"});
  Graph& g = a.g;
  const int64_t classes = g.shape(g.output("logits"))[1].constant;
  if (!a.params.Has(kCalibrationShift)) a.params.Allocate(kCalibrationShift, {classes});
  ReplaceLogits(
      g, [&](ValueId logits) { return Add(g, logits, g.AddParam(kCalibrationShift, {classes})); });
  report.rewrites = 1;
  return FinishReport(a, report);
}

}  // namespace

const MethodRecord kCalibrationMethod{
    .name = "calibration",
    .summary = "blank inputs get equal probabilities, after training (Zhao et al. 2021)",
    .equation = "z <- z - log p_cf",
    .formula = "0 (K numbers are stored)",
    .source = "Zhao et al. 2021, arXiv 2102.09690",
    .options =
        +[] {
          return std::vector<MethodOption>{
              {"inputs", "blank", "texts \"\", [MASK], N/A; images: mid-grey"}};
        },
    .apply = ApplyCalibration,
    .count = +[](const MethodArgs&) -> int64_t { return 0; },
    .folds = Folds::kYes,
    .why = "b_head - log p_cf",
    .learning_rate = 1e-2,
    .phase = MethodPhase::kTokens,
    .owns = "calibration.",
    .trains_nothing = true};

}  // namespace graft
