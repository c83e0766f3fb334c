#include "tools/reports/charts.h"

#include <cmath>

namespace graft {

nlohmann::json Axis(const std::string& title, bool logarithmic) {
  nlohmann::json axis{{"title", {{"display", !title.empty()}, {"text", title}}}};
  if (logarithmic) axis["type"] = "logarithmic";
  return axis;
}

nlohmann::json PointOf(const nlohmann::json& x, double share, double spread) {
  nlohmann::json point{{"x", x}, {"y", 100 * share}};
  if (!std::isnan(spread)) point["spread"] = 100 * spread;
  return point;
}

namespace {

nlohmann::json OptionsOf(const std::string& title, const nlohmann::json& x,
                         const nlohmann::json& y) {
  return {{"plugins", {{"title", {{"display", true}, {"text", title}}}}},
          {"scales", {{"x", x}, {"y", y}}}};
}

}  // namespace

nlohmann::json ScatterChart(const std::string& title, nlohmann::json datasets,
                            const nlohmann::json& x, const nlohmann::json& y) {
  if (datasets.empty()) return {};
  return {{"type", "scatter"},
          {"data", {{"datasets", std::move(datasets)}}},
          {"options", OptionsOf(title, x, y)}};
}

nlohmann::json LabelledChart(const std::string& type, const std::string& title,
                             nlohmann::json labels, nlohmann::json datasets,
                             const nlohmann::json& x, const nlohmann::json& y) {
  if (datasets.empty()) return {};
  return {{"type", type},
          {"data", {{"labels", std::move(labels)}, {"datasets", std::move(datasets)}}},
          {"options", OptionsOf(title, x, y)}};
}

}  // namespace graft
