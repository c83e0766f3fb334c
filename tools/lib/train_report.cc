#include "tools/lib/train_report.h"

#include "runtime/cpu.h"
#include "tools/lib/data_report.h"
#include "tools/lib/model_options.h"
#include "tools/lib/output.h"
#include "tools/lib/report.h"
#include "train/run_summary.h"

namespace graft {

nlohmann::json TrainJson(const std::string& run, const TrainSummary& s) {
  nlohmann::json json{{"run", run},
                      {"method", s.config.method},
                      {"task", s.config.task},
                      {"dtype", s.products.empty() ? s.config.dtype : s.products},
                      {"epochs", s.config.epochs},
                      {"steps", s.steps},
                      {"trainable_parameters", s.trainable_parameters},
                      {"stored_parameters", s.stored_parameters},
                      {"final_train_loss", s.final_train_loss},
                      {"val_accuracy", nullptr},
                      {"best_metric", s.config.best_metric},
                      {"best", nullptr},
                      {"best_epoch", nullptr},
                      {"stopped_early", s.stopped_early},
                      {"seconds", s.seconds},
                      {"examples_per_second", s.examples_per_second},
                      {"start_seconds", s.start_seconds},
                      {"peak_memory_bytes", PeakResidentBytes()},
                      {"planned_bytes", s.planned_bytes},
                      {"interrupted", s.interrupted}};
  // Where nothing was left to do, these are those of the session that did it.
  if (s.planned_bytes == 0)
    for (const nlohmann::json kept = ReadSummary(run);
         const char* key :
         {"examples_per_second", "start_seconds", "planned_bytes", "peak_memory_bytes", "dtype"})
      if (kept.is_object() && kept.contains(key)) json[key] = kept[key];
  AddPreprocess(s.config, !s.config.preprocess.empty(), &json);
  if (s.config.skip_bad) json["skipped"] = SkippedJson(s.skipped);
  if (s.val_accuracy >= 0) json["val_accuracy"] = s.val_accuracy;
  if (s.best) json["best"] = *s.best, json["best_epoch"] = s.best_epoch;
  return json;
}

void SayDone(const TrainSummary& s, const CommonOptions& common) {
  if (s.stopped_early)
    Say(common,
        fmt::format("stopped early: no better validation {} in the {} since epoch {}",
                    s.config.best_metric, Counted(s.config.early_stopping, "epoch"), s.best_epoch));
  Say(common,
      fmt::format("done: {}, {} trainable parameters, {:.1f} s in steps, peak memory {} MiB",
                  Counted(s.steps, "step"), Grouped(s.trainable_parameters), s.seconds,
                  PeakResidentBytes() >> 20));
}

}  // namespace graft
