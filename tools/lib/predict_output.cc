#include "tools/lib/predict_output.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/io/npy.h"
#include "runtime/utf8.h"
#include "tools/lib/report.h"
#include "tools/lib/run_table.h"

namespace graft {
namespace {

struct RankedClass {
  int64_t index;
  double probability;
  float logit;
};

// The k largest (0: all), ties by index. Probabilities are a softmax in double over all logits or,
// for independent classes, a sigmoid of each.
std::vector<RankedClass> TopOf(std::span<const float> logits, int64_t k, bool independent) {
  const double most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float x : logits) sum += std::exp(static_cast<double>(x) - most);
  std::vector<RankedClass> all;
  for (size_t i = 0; i < logits.size(); ++i) {
    const double z = logits[i];
    const double p = independent ? 1 / (1 + std::exp(-z)) : std::exp(z - most) / sum;
    all.push_back({static_cast<int64_t>(i), p, logits[i]});
  }
  const auto better = [](const RankedClass& a, const RankedClass& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.index < b.index;
  };
  std::stable_sort(all.begin(), all.end(), better);
  if (k > 0) all.resize(std::min<int64_t>(k, std::ssize(all)));
  return all;
}

nlohmann::json NameOrNull(const std::vector<std::string>& labels, size_t k) {
  return labels.empty() ? nlohmann::json() : nlohmann::json(labels[k]);
}

// The name of a column for the class or number.
std::string ColumnOf(const OpenedModel& opened, size_t k) {
  const std::vector<std::string>& labels = opened.labels();
  return labels.empty() ? fmt::format("output_{}", k) : labels[k];
}

// Puts what a model makes of an example into the prediction.
void AddOutputs(const OpenedModel& opened, std::span<const float> all, size_t row,
                const ShownOutputs& shown, nlohmann::json* prediction) {
  nlohmann::json& p = *prediction;
  const size_t classes = static_cast<size_t>(Classes(opened.model.config));
  const std::span<const float> logits = all.subspan(row * classes, classes);
  const std::string& task = TaskOf(opened.model.config);
  if (task == kRegression) {
    p["values"] = nlohmann::json::array();
    for (size_t k = 0; k < classes; ++k)
      p["values"].push_back({{"name", NameOrNull(opened.labels(), k)}, {"value", logits[k]}});
    return;
  }
  p["top"] = nlohmann::json::array();
  for (const RankedClass& c : TopOf(logits, shown.top, task == kMultiLabel))
    p["top"].push_back({{"class", c.index},
                        {"name", NameOrNull(opened.labels(), static_cast<size_t>(c.index))},
                        {"probability", c.probability},
                        {"logit", c.logit}});
  if (task != kMultiLabel) return;
  p["labels"] = nlohmann::json::array();
  for (const RankedClass& c : TopOf(logits, 0, true))
    if (c.probability > shown.threshold)
      p["labels"].push_back(ColumnOf(opened, static_cast<size_t>(c.index)));
}

std::string TopLines(const nlohmann::json& top, const std::string& indent) {
  TextTable table({0, 1, 2});
  for (const nlohmann::json& c : top)
    table.Add({fmt::format("{:.2f} %", 100 * c["probability"].get<double>()),
               fmt::format("{:.3f}", c["logit"].get<double>()),
               fmt::format("class {}", c["class"].get<int64_t>()),
               c["name"].is_null() ? "" : c["name"].get<std::string>()});
  return table.Lines(indent);
}

std::string OutputLines(const nlohmann::json& p, const std::string& indent) {
  if (p.contains("values")) {
    TextTable table({1});
    for (const nlohmann::json& v : p["values"])
      table.Add({v["name"].is_null() ? "value" : v["name"].get<std::string>(),
                 fmt::format("{:.7g}", v["value"].get<double>())});
    return table.Lines(indent);
  }
  if (!p.contains("labels")) return TopLines(p["top"], indent);
  const auto labels = p["labels"].get<std::vector<std::string>>();
  return fmt::format(
      "{}labels: {}\n{}", indent,
      labels.empty() ? "none" : EscapeControls(fmt::format("{}", fmt::join(labels, ", "))),
      TopLines(p["top"], indent));
}

std::string Text(const nlohmann::json& value) {
  if (value.is_null()) return "";
  return value.is_string() ? value.get<std::string>() : value.dump();
}

std::string CsvLine(const nlohmann::json& prediction, const std::string* adapter,
                    const nlohmann::json& top, int64_t columns) {
  std::string line = CsvField(Text(prediction["input"]));
  for (const char* key : {"file", "row"})
    line += "," + (prediction.contains(key) ? CsvField(Text(prediction[key])) : std::string());
  if (adapter) line += "," + CsvField(*adapter);
  for (int64_t i = 0; i < columns; ++i)
    for (const char* key : {"class", "name", "probability", "logit"})
      line += "," + (i < std::ssize(top) ? CsvField(Text(top[i][key])) : std::string());
  return line + "," + (prediction.contains("error") ? CsvField(Text(prediction["error"])) : "") +
         "\n";
}

}  // namespace

void ForEachPrediction(const JointModel& joint, const PredictInputs& inputs, const Logits& logits,
                       const ShownOutputs& shown,
                       const std::function<void(const nlohmann::json&)>& each) {
  const bool several = joint.members.size() > 1;
  size_t row = 0;
  for (const PredictInput& example : inputs.examples) {
    nlohmann::json p{{"input", example.input}};
    if (!example.file.empty()) p["file"] = example.file;
    if (example.row > 0) p["row"] = example.row;
    if (!example.error.empty()) {
      p["error"] = example.error;
    } else if (several) {
      for (size_t m = 0; m < joint.members.size(); ++m) {
        p["adapters"].push_back({{"adapter", joint.members[m].name}});
        AddOutputs(joint.members[m].opened, logits[m], row, shown, &p["adapters"].back());
      }
      ++row;
    } else {
      AddOutputs(joint.first(), logits[0], row++, shown, &p);
    }
    each(p);
  }
}

std::string PredictionText(const nlohmann::json& p, size_t text_columns) {
  std::string text = Text(p["input"]);
  if (text_columns > 0) {
    for (char& c : text)
      if (c == '\n' || c == '\r' || c == '\t') c = ' ';
    text = FitText(EscapeControls(text), text_columns);
  }
  if (p.contains("error")) text += "\n  not read: " + Text(p["error"]);
  if (p.contains("top") || p.contains("values")) text += "\n" + OutputLines(p, "  ");
  if (p.contains("adapters"))
    for (const nlohmann::json& a : p["adapters"])
      text += fmt::format("\n  {}\n{}", Text(a["adapter"]), OutputLines(a, "    "));
  return text;
}

std::string CsvHeader(bool several, int64_t top) {
  std::string text = several ? "input,file,row,adapter" : "input,file,row";
  for (int64_t i = 1; i <= top; ++i)
    for (const char* name : {"class", "name", "probability", "logit"})
      text += i == 1 ? fmt::format(",{}", name) : fmt::format(",{}_{}", name, i);
  return text + ",error\n";
}

std::string CsvLines(const nlohmann::json& p, bool several, int64_t top) {
  const nlohmann::json none = nlohmann::json::array();
  if (!several) return CsvLine(p, nullptr, p.contains("top") ? p["top"] : none, top);
  const std::string no_adapter;
  if (!p.contains("adapters")) return CsvLine(p, &no_adapter, none, top);
  std::string text;
  for (const nlohmann::json& a : p["adapters"]) {
    const std::string name = Text(a["adapter"]);
    text += CsvLine(p, &name, a["top"], top);
  }
  return text;
}

std::string TargetCsvHeader(const OpenedModel& opened) {
  std::string text = "input,file,row";
  if (TaskOf(opened.model.config) == kMultiLabel) text += ",labels";
  for (size_t k = 0; k < static_cast<size_t>(Classes(opened.model.config)); ++k)
    text += "," + CsvField(ColumnOf(opened, k));
  return text + ",error\n";
}

std::string TargetCsvLine(const nlohmann::json& p, const OpenedModel& opened) {
  std::string line = CsvField(Text(p["input"]));
  for (const char* key : {"file", "row"})
    line += "," + (p.contains(key) ? CsvField(Text(p[key])) : std::string());
  std::vector<std::string> cells(static_cast<size_t>(Classes(opened.model.config)));
  if (p.contains("values"))
    for (size_t k = 0; k < cells.size(); ++k) cells[k] = Text(p["values"][k]["value"]);
  if (p.contains("labels"))
    for (const nlohmann::json& c : p["top"])
      cells[c["class"].get<size_t>()] = Text(c["probability"]);
  if (TaskOf(opened.model.config) == kMultiLabel) {
    std::vector<std::string> labels;
    if (p.contains("labels")) labels = p["labels"].get<std::vector<std::string>>();
    line += "," + CsvField(fmt::format("{}", fmt::join(labels, "|")));
  }
  for (const std::string& cell : cells) line += "," + CsvField(cell);
  return line + "," + (p.contains("error") ? CsvField(Text(p["error"])) : "") + "\n";
}

void WriteLogits(const std::string& path, const JointModel& joint, const PredictInputs& inputs,
                 const Logits& logits) {
  std::vector<std::vector<float>> whole(logits.size());
  const auto array = [&](const std::string& name, size_t m) {
    const int64_t classes = Classes(joint.members[m].opened.model.config);
    auto from = logits[m].begin();
    for (const PredictInput& example : inputs.examples) {
      if (example.error.empty())
        whole[m].insert(whole[m].end(), from, from + classes), from += classes;
      else
        whole[m].insert(whole[m].end(), static_cast<size_t>(classes),
                        std::numeric_limits<float>::quiet_NaN());
    }
    return ToWrite<float>(name, {std::ssize(inputs.examples), classes}, whole[m]);
  };
  const bool several = logits.size() > 1;
  if (!several && !path.ends_with(".npz")) return WriteNpy(path, array("logits", 0));
  NpzWriter writer(path);
  for (size_t m = 0; m < logits.size(); ++m)
    writer.Add(array(several ? fmt::format("logits_{}", m) : "logits", m));
  writer.Close();
}

}  // namespace graft
