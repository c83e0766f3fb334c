// Chart.js's configurations, as Page::Chart takes them. What tools/data/report.js adds: `tone` of a
// dataset is the number of its colour (by default its own number), and `spread` of a point a bar
// of so much above and below it.
#pragma once
#include <nlohmann/json.hpp>
#include <string>

namespace graft {

nlohmann::json Axis(const std::string& title, bool logarithmic = false);

// {x, y, spread} of shares, in percent; without a spread that is NaN. `x`: a number or a label.
nlohmann::json PointOf(const nlohmann::json& x, double share, double spread);

// Points {x, y} of datasets {label, data}; null without datasets.
nlohmann::json ScatterChart(const std::string& title, nlohmann::json datasets,
                            const nlohmann::json& x, const nlohmann::json& y);
// Datasets of a number for each label. `type`: line or bar.
nlohmann::json LabelledChart(const std::string& type, const std::string& title,
                             nlohmann::json labels, nlohmann::json datasets,
                             const nlohmann::json& x, const nlohmann::json& y);

}  // namespace graft
