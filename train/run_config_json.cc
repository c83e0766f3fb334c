#include "train/run_config_json.h"

#include "adapters/fields.h"

namespace graft {

nlohmann::json ToJson(const RunConfig& config) { return FieldsToJson(config); }

RunConfig RunConfigFromJson(const nlohmann::json& json, const std::string& where) {
  RunConfig config = FieldsFromJson<RunConfig>(json, where);
  try {
    CheckRunConfig(config);
    ParseMethod(config.method);
  } catch (const Error& e) {  // of a command line
    Fail("{}: {}", where, e.what());
  }
  config.preprocess_source = "the run";
  return config;
}

}  // namespace graft
