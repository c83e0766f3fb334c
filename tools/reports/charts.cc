#include "tools/reports/charts.h"

#include <algorithm>
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

// Lets the axis reach to the ends of the bars of spread; Chart.js knows the points alone.
nlohmann::json Reaching(nlohmann::json y, const nlohmann::json& datasets) {
  double low = INFINITY, high = -INFINITY;
  for (const nlohmann::json& set : datasets)
    for (const nlohmann::json& point : set["data"])
      if (point.is_object() && point.contains("spread")) {
        const double middle = point["y"], spread = point["spread"];
        low = std::min(low, middle - spread), high = std::max(high, middle + spread);
      }
  if (high >= low) y["suggestedMin"] = low, y["suggestedMax"] = high;
  return y;
}

nlohmann::json OptionsOf(const std::string& title, const nlohmann::json& x,
                         const nlohmann::json& y) {
  return {{"plugins", {{"title", {{"display", true}, {"text", title}}}}},
          {"scales", {{"x", x}, {"y", y}}}};
}

}  // namespace

nlohmann::json ScatterChart(const std::string& title, nlohmann::json datasets,
                            const nlohmann::json& x, const nlohmann::json& y) {
  if (datasets.empty()) return {};
  const nlohmann::json options = OptionsOf(title, x, Reaching(y, datasets));
  return {{"type", "scatter"}, {"data", {{"datasets", std::move(datasets)}}}, {"options", options}};
}

nlohmann::json LabelledChart(const std::string& type, const std::string& title,
                             nlohmann::json labels, nlohmann::json datasets,
                             const nlohmann::json& x, const nlohmann::json& y) {
  if (datasets.empty()) return {};
  const nlohmann::json options = OptionsOf(title, x, Reaching(y, datasets));
  return {{"type", type},
          {"data", {{"labels", std::move(labels)}, {"datasets", std::move(datasets)}}},
          {"options", options}};
}

}  // namespace graft
