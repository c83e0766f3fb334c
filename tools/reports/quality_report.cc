#include "tools/reports/quality_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "data/exif.h"
#include "data/resize.h"
#include "runtime/error.h"
#include "tools/lib/eval_tables.h"
#include "tools/lib/report.h"
#include "tools/reports/charts.h"
#include "tools/reports/confusion_report.h"
#include "train/task_metrics.h"

namespace graft {
namespace {

constexpr int kThumbnail = 128;  // pixels of the longer side
constexpr size_t kMostLetters = 600, kMostNumbers = 6;

HtmlCell Figure(double value) { return NumberCell(value, fmt::format("{:.4g}", value)); }

void AddMeasures(const RunQuality& q, Page* page) {
  const Metrics& m = q.metrics;
  HtmlTable table{{"measure", "value"}, {false, true}};
  const auto add = [&](const std::string& name, double value, bool share) {
    table.rows.push_back({{name}, NumberCell(value, share ? Percent(value) : Figure(value).text)});
  };
  if (q.masked_words) {
    add("masked words guessed", m.accuracy, true);
    add("perplexity", std::exp(m.loss), false);
    add("loss", m.loss, false);
  } else {
    for (const MetricInfo& metric : MetricsOf(q.task))
      add(metric.title, metric.value(m), metric.share);
    if (q.task == kClassify && q.labels.size() == 2)
      add("F1 of " + q.labels[1], F1(m.confusion, 1), true);
  }
  page->Table(table);
}

void AddColumns(const RunQuality& q, Page* page) {
  page->Heading("Columns", 3);
  HtmlTable table{{"column", "MSE", "MAE", "R2", "Pearson", "Spearman"},
                  {false, true, true, true, true, true}};
  for (size_t k = 0; k < q.metrics.regression.columns.size(); ++k) {
    const ColumnMeasures& c = q.metrics.regression.columns[k];
    table.rows.push_back({{q.labels[k]},
                          Figure(c.mse),
                          Figure(c.mae),
                          Figure(c.r2),
                          Figure(c.pearson),
                          Figure(c.spearman)});
  }
  page->Table(table);
}

// Draws predicted over true numbers of a column, with the line on which they would be equal.
void AddScatter(const RunQuality& q, size_t column, Page* page) {
  nlohmann::json points = nlohmann::json::array();
  double least = INFINITY, most = -INFINITY;
  for (const JudgedExample& j : q.sample) {
    const double target = j.targets[column];
    points.push_back({{"x", target}, {"y", j.outputs[column]}});
    least = std::min(least, target), most = std::max(most, target);
  }
  const nlohmann::json equal{{{"x", least}, {"y", least}}, {{"x", most}, {"y", most}}};
  page->Chart(
      ScatterChart(q.labels[column],
                   {{{"label", "examples"}, {"data", points}},
                    {{"label", "equal"}, {"data", equal}, {"showLine", true}, {"pointRadius", 0}}},
                   Axis("true"), Axis("predicted")),
      true);
}

void AddRegression(const RunQuality& q, Page* page) {
  AddColumns(q, page);
  const size_t charts = std::min(kMostNumbers, q.labels.size());
  page->BeginGrid();
  for (size_t k = 0; k < charts; ++k) AddScatter(q, k, page);
  page->EndGrid();
  page->BeginDetails(
      fmt::format("{} of {} examples, true and predicted", q.sample.size(), Grouped(q.metrics.n)));
  HtmlTable table{{"example"}, {false}};
  for (size_t k = 0; k < charts; ++k)
    for (const char* what : {"", ", predicted"})
      table.titles.push_back(q.labels[k] + what), table.numbers.push_back(true);
  for (const JudgedExample& j : q.sample) {
    std::vector<HtmlCell>& row = table.rows.emplace_back();
    row.push_back({CutText(q.names.at(j.example), 80)});
    for (size_t k = 0; k < charts; ++k)
      row.push_back(Figure(j.targets[k])), row.push_back(Figure(j.outputs[k]));
  }
  page->Table(table);
  page->EndDetails();
}

void AddLabels(const RunQuality& q, Page* page) {
  page->Heading("Labels, in percent", 3);
  HtmlTable table{
      {"label", "examples", "predicted", "precision", "recall", "F1", "average precision"},
      {false, true, true, true, true, true, true}};
  for (size_t k = 0; k < q.metrics.multi_label.labels.size(); ++k) {
    const LabelMeasures& c = q.metrics.multi_label.labels[k];
    table.rows.push_back({{q.labels[k]},
                          CountCell(c.n),
                          CountCell(c.predicted),
                          ShareCell(c.precision),
                          ShareCell(c.recall),
                          ShareCell(c.f1),
                          ShareCell(c.average_precision)});
  }
  page->Table(table);
}

// --- the examples with the largest losses

// What should be said of an example, and what is said.
std::pair<std::string, std::string> TrueAndPredicted(const RunQuality& q, const JudgedExample& j) {
  if (q.task == kClassify)
    return {fmt::format("{} ({})", q.labels[j.label], Percent(j.label_probability)),
            fmt::format("{} ({})", q.labels[j.predicted], Percent(j.probability))};
  std::string wanted, said;
  const auto join = [](std::string* text, const std::string& word) {
    *text += (text->empty() ? "" : ", ") + word;
  };
  for (size_t k = 0; k < j.outputs.size(); ++k) {
    if (q.task != kRegression) {
      if (j.targets[k] >= 0.5f) join(&wanted, q.labels[k]);
      if (j.outputs[k] > 0) join(&said, q.labels[k]);
    } else if (k < kMostNumbers) {
      const std::string name = j.outputs.size() > 1 ? q.labels[k] + " " : "";
      join(&wanted, fmt::format("{}{:.4g}", name, j.targets[k]));
      join(&said, fmt::format("{}{:.4g}", name, j.outputs[k]));
    }
  }
  return {wanted.empty() ? "none" : wanted, said.empty() ? "none" : said};
}

void AddWorst(const RunQuality& q, Page* page) {
  page->Heading("The worst examples", 3);
  page->Text(fmt::format("The {} examples with the largest loss, of {} measured.", q.worst.size(),
                         Grouped(q.metrics.n)),
             "soft");
  if (q.texts) {
    HtmlTable table{{"text", "true", "predicted", "loss"}, {false, false, false, true}};
    for (const JudgedExample& j : q.worst) {
      const auto [wanted, said] = TrueAndPredicted(q, j);
      table.rows.push_back({TextCell(q.names.at(j.example)), {wanted}, {said}, Figure(j.loss)});
    }
    return page->Table(table);
  }
  std::vector<HtmlPicture> pictures;
  for (const JudgedExample& j : q.worst) {
    const auto [wanted, said] = TrueAndPredicted(q, j);
    const std::string& path = q.names.at(j.example);
    pictures.push_back({Thumbnail(path, q.upright),
                        {"true " + wanted, "said " + said, fmt::format("loss {:.4g}", j.loss),
                         path.substr(path.find_last_of('/') + 1)}});
  }
  page->Gallery(pictures);
}

}  // namespace

std::string Thumbnail(const std::string& path, bool upright) {
  try {
    Image image = ReadImage(path);
    if (upright) image = Upright(image);
    if (const int longer = std::max(image.width, image.height); longer > kThumbnail) {
      const auto side = [&](int pixels) {
        return std::max(1, static_cast<int>(int64_t{pixels} * kThumbnail / longer));
      };
      image = Resize(image, side(image.width), side(image.height), Filter::kBicubic);
    }
    return DataUri("image/png", EncodePng(image));
  } catch (const Error&) {
    return "";
  }
}

HtmlCell TextCell(const std::string& text) {
  HtmlCell cell{CutText(text, kMostLetters)};
  cell.wraps = true;
  return cell;
}

void AddQuality(const RunQuality& q, Page* page) {
  page->Heading(fmt::format("Measured on '{}'", q.split), 3);
  const std::string some =
      q.examples < q.size ? fmt::format(", of {} in the split", Grouped(int64_t(q.size))) : "";
  page->Text(fmt::format("The checkpoint '{}' on {} {}{}, computed for this page.", q.checkpoint,
                         Grouped(q.examples), q.unit, some),
             "soft");
  AddMeasures(q, page);
  if (q.masked_words) return;
  if (q.task == kClassify) AddConfusion(q.metrics.confusion, q.labels, page);
  if (q.task == kRegression) AddRegression(q, page);
  if (q.task == kMultiLabel) AddLabels(q, page);
  AddWorst(q, page);
}

}  // namespace graft
