#include "tools/lib/calibrate_options.h"

#include "tools/lib/output.h"
#include "tools/lib/report.h"
#include "train/byte_ranges.h"
#include "train/dataset.h"

namespace graft {

void AddCalibrateOptions(CLI::App& command, CalibrateOptions& o) {
  command.add_option("--calibrate", o.data,
                     "with --dtype int8: a data set whose examples tell what rounding takes from "
                     "the mean of each product, which its bias then adds");
  command.add_option("--calibrate-limit", o.limit, "examples of it that are looked at")
      ->check(CLI::Range(int64_t{1}, int64_t{1'000'000}))
      ->default_str("64");
  command.add_flag("--static-scales", o.static_scales,
                   "rows get scales that these examples tell, instead of each its own as it comes");
}

void CheckCalibrateOptions(const CalibrateOptions& o, const CommonOptions& common) {
  if (o.data.empty() && o.limit) FailUsage("--calibrate-limit {}: goes with --calibrate", *o.limit);
  if (o.data.empty() && o.static_scales) FailUsage("--static-scales: goes with --calibrate");
  if (!o.data.empty() && common.dtype != "int8")
    FailUsage("--calibrate {}: goes with --dtype int8, found {}", o.data, common.dtype);
}

PassOptions CalibratedPasses(const CalibrateOptions& o, const std::string& columns,
                             OpenedModel& opened, const CommonOptions& common) {
  PassOptions passes = PassesOf(common);
  CheckKeep(opened.Inference(false), passes.precision);
  if (o.data.empty()) return passes;
  if (ByteProducts(opened.ToRun(false), passes.precision).empty()) {  // others have told why
    Say(common, fmt::format("note: --calibrate {}: nothing is in int8, so it is not read", o.data));
    return passes;
  }
  Dataset data(o.data, {o.columns.empty() ? columns : o.columns,
                        opened.facts.objective,
                        true,
                        opened.facts.task,
                        {}});
  data.CheckKind(opened.model);
  const std::string split = data.DefaultTrainSplit();
  const std::unique_ptr<BatchSource> examples =
      data.Load(split, o.limit.value_or(64), opened.model, opened.facts);
  if (examples->size() == 0) Fail("--calibrate {}: no examples in split {}", o.data, split);
  passes.precision.calibration = std::make_shared<const Calibration>(
      Calibrate(opened.ToRun(false), opened.model.params, opened.model.config, *examples,
                common.memory_budget, passes, o.static_scales));
  AddSeen(*passes.precision.calibration, opened.model.params);
  Say(common, fmt::format("calibrated: {} products by {} {} of {}, split {}",
                          passes.precision.calibration->size(), examples->size(), examples->unit(),
                          o.data, split));
  return passes;
}

size_t CalibratedProducts(const PassOptions& passes) {
  return passes.precision.calibration ? passes.precision.calibration->size() : 0;
}

}  // namespace graft
