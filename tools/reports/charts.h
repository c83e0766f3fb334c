// Makes configurations of Chart.js, as Page::Chart takes them. tools/data/report.js adds two
// members: `tone` of a dataset is the number of its colour (its own number unless given), and
// `spread` of a point is a bar of so much above and below it.
#pragma once
#include <nlohmann/json.hpp>
#include <string>

namespace graft {

nlohmann::json Axis(const std::string& title, bool logarithmic = false);

// The point {x, y, spread} of shares, in percent; it has no spread if that is NaN. `x` is a number
// or a label.
nlohmann::json PointOf(const nlohmann::json& x, double share, double spread);

// Draws points {x, y} of datasets {label, data}; null without datasets.
nlohmann::json ScatterChart(const std::string& title, nlohmann::json datasets,
                            const nlohmann::json& x, const nlohmann::json& y);
// Draws datasets that have a number for each label. `type` is line or bar.
nlohmann::json LabelledChart(const std::string& type, const std::string& title,
                             nlohmann::json labels, nlohmann::json datasets,
                             const nlohmann::json& x, const nlohmann::json& y);

}  // namespace graft
