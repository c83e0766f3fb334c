#include "train/run_config_json.h"

#include "adapters/fields.h"
#include "adapters/method_graph.h"
#include "data/text.h"
#include "ops/isa.h"

namespace graft {

nlohmann::json ToJson(const RunConfig& config) { return FieldsToJson(config); }

RunConfig RunConfigFromJson(const nlohmann::json& json, const std::string& where) {
  RunConfig config = FieldsFromJson<RunConfig>(json, where);
  CheckRunFacts(config, where);
  if (config.data.empty()) Fail("{}: 'data' is empty", where);
  if (config.train_split.empty()) Fail("{}: 'train_split' is empty", where);
  OfFile(where, [&] {
    CheckRunConfig(config);
    if (!config.isa.empty()) CheckIsa(config.isa);
    if (!config.memory_budget.empty()) ParseBytes(config.memory_budget);
    CheckPassNames(config.disabled_passes);
    ParsePrecision(config.dtype, config.keep);
    ParseTextColumns(config.columns), ParseTextColumns(config.read_columns);
  });
  config.preprocess_source = "the run";
  return config;
}

}  // namespace graft
