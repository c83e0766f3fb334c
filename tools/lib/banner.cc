#include "tools/lib/banner.h"

#include <cmath>
#include <filesystem>

#include "runtime/threads.h"
#include "tools/lib/model_options.h"
#include "tools/lib/report.h"
#include "train/run_config_json.h"

namespace graft {
namespace {

// The last part of a path; the run's config.json has the whole.
std::string ShortName(const std::string& path) {
  if (path.starts_with("init:")) return path;
  const std::filesystem::path p(path);
  return (p.has_filename() ? p.filename() : p.parent_path().filename()).string();
}

std::string DataText(const BeginReport& r) {
  const RunConfig& c = *r.config;
  std::string text = fmt::format("{}, {} {} to learn from ({}), ", c.data, Grouped(r.train), r.unit,
                                 c.train_split);
  text += r.validation > 0
              ? fmt::format("{} to validate on ({})", Grouped(r.validation), c.val_split)
              : "none to validate on";
  if (MasksWords(c)) return text;
  if (c.task == kRegression) return text + fmt::format(", numbers: {}", fmt::join(c.labels, ", "));
  return text + fmt::format(", {} classes{}", c.labels.size(),
                            c.task == kMultiLabel ? ", any number of them at once" : "");
}

std::string MethodText(const BeginReport& r) {
  const RunConfig& c = *r.config;
  const double share =
      static_cast<double>(r.trainable_parameters) / static_cast<double>(r.parameters);
  std::string text =
      fmt::format("{}, {} of {} parameters train ({:.2f} %)", c.method,
                  Grouped(r.trainable_parameters), Grouped(r.parameters), 100 * share);
  if (c.objective.empty() && c.head.empty())
    text += c.new_head ? ", with a fresh head" : ", from the head that the model has";
  return text;
}

std::string StepsText(const BeginReport& r) {
  const RunConfig& c = *r.config;
  if (SearchedTerm(ParseMethod(c.method)))
    return fmt::format("{} generations of candidates, each measured on all {}", Grouped(r.steps),
                       r.unit);
  std::string text =
      fmt::format("{} = {} of {}, batches of {} {}", Grouped(r.steps), Counted(c.epochs, "epoch"),
                  Grouped(r.steps_per_epoch), c.batch_size, r.unit);
  if (r.first_step > 0) text += fmt::format("; goes on at step {}", Grouped(r.first_step + 1));
  return text;
}

std::string RateText(const RunConfig& c, int64_t steps) {
  const double warm =
      c.warmup > 0 ? std::max(1.0, std::floor(c.warmup * static_cast<double>(steps))) : 0;
  std::string text =
      fmt::format("{:g}, {}, {} of warm-up; {}, weight decay {:g}", c.lr, c.schedule,
                  Counted(static_cast<int64_t>(warm), "step"), c.optimizer, c.weight_decay);
  if (!c.class_weights.empty()) text += fmt::format("; class weights {}", c.class_weights);
  return text;
}

}  // namespace

std::string StartBanner(const BeginReport& r, const std::string& run) {
  const RunConfig& c = *r.config;
  TextTable table;
  table.Add({"model", fmt::format("{}, a {} of {}", ShortName(c.model),
                                  r.model->is_bert() ? "BERT" : "vision transformer",
                                  SizesText(r.model->config))});
  table.Add({"data", DataText(r)});
  table.Add({"method", MethodText(r)});
  table.Add({"steps", StepsText(r)});
  const int64_t planned = c.schedule_epochs > 0 ? r.steps_per_epoch * c.schedule_epochs : r.steps;
  if (!SearchedTerm(ParseMethod(c.method))) table.Add({"rate", RateText(c, planned)});
  if (!c.augment.empty()) table.Add({"images", "changed at random: " + c.augment});
  if (r.validation > 0)
    table.Add({"best", "by validation " + c.best_metric +
                           (c.early_stopping > 0
                                ? ", ends " + Counted(c.early_stopping, "epoch") + " after it"
                                : "")});
  if (!c.preprocess.empty())
    table.Add({"pixels", fmt::format("{} ({})", c.preprocess, c.preprocess_source)});
  table.Add({"run", run});
  return "training\n" + table.Lines("  ");
}

std::string PlanLines(const PlanReport& r) {
  TextTable table;
  if (const RunConfig& c = *r.config; c.dtype != "f32")
    table.Add({"products", fmt::format("in {}{}", r.products,
                                       c.keep.empty() ? "" : ", but in f32 those of " + c.keep)});
  table.Add({"memory",
             fmt::format("{} planned, {} at once, {}{}", Megabytes(r.planned_bytes), r.micro_batch,
                         Counted(Threads(), "thread"), r.features ? ", features kept" : "")});
  return table.Lines("  ");
}

std::string AllSettings(const RunConfig& config) {
  RunConfig shown = config;
  shown.labels.clear();
  std::string line;
  const nlohmann::json fields = ToJson(shown);
  for (const auto& [key, value] : fields.items())
    if (key != "labels" && value != "" && value != nlohmann::json::array())
      line += fmt::format("{}{}={}", line.empty() ? "" : "  ", key,
                          value.is_string() ? value.get<std::string>() : value.dump());
  return line;
}

}  // namespace graft
