#include "tools/lib/predict_output.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/io/npy.h"
#include "tools/lib/report.h"
#include "tools/lib/run_table.h"

namespace graft {
namespace {

struct Choice {
  int64_t index;
  double probability;
  float logit;
};

// The k largest, ties by index; softmax in double over all of them.
std::vector<Choice> TopOf(std::span<const float> logits, int64_t k) {
  const double most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float x : logits) sum += std::exp(static_cast<double>(x) - most);
  std::vector<Choice> all;
  for (size_t i = 0; i < logits.size(); ++i)
    all.push_back({static_cast<int64_t>(i), std::exp(static_cast<double>(logits[i]) - most) / sum,
                   logits[i]});
  const auto better = [](const Choice& a, const Choice& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.index < b.index;
  };
  std::stable_sort(all.begin(), all.end(), better);
  all.resize(std::min<int64_t>(k, static_cast<int64_t>(all.size())));
  return all;
}

nlohmann::json TopJson(const OpenedModel& opened, std::span<const float> logits, size_t row,
                       int64_t top) {
  const size_t classes = static_cast<size_t>(Classes(opened.model.config));
  const std::vector<std::string>& labels = opened.labels();
  nlohmann::json json = nlohmann::json::array();
  for (const Choice& c : TopOf(logits.subspan(row * classes, classes), top)) {
    const nlohmann::json name = labels.empty() ? nlohmann::json() : nlohmann::json(labels[c.index]);
    json.push_back(
        {{"class", c.index}, {"name", name}, {"probability", c.probability}, {"logit", c.logit}});
  }
  return json;
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
                       int64_t top, const std::function<void(const nlohmann::json&)>& each) {
  const bool several = joint.members.size() > 1;
  size_t row = 0;
  for (const PredictInput& example : inputs.examples) {
    nlohmann::json p{{"input", example.input}};
    if (!example.file.empty()) p["file"] = example.file;
    if (example.row > 0) p["row"] = example.row;
    if (!example.error.empty()) {
      p["error"] = example.error;
    } else if (several) {
      for (size_t m = 0; m < joint.members.size(); ++m)
        p["adapters"].push_back({{"adapter", joint.members[m].name},
                                 {"top", TopJson(joint.members[m].opened, logits[m], row, top)}});
      ++row;
    } else {
      p["top"] = TopJson(joint.first(), logits[0], row++, top);
    }
    each(p);
  }
}

std::string PredictionText(const nlohmann::json& p) {
  std::string text = Text(p["input"]);
  if (p.contains("error")) text += "\n  not read: " + Text(p["error"]);
  if (p.contains("top")) text += "\n" + TopLines(p["top"], "  ");
  if (p.contains("adapters"))
    for (const nlohmann::json& a : p["adapters"])
      text += fmt::format("\n  {}\n{}", Text(a["adapter"]), TopLines(a["top"], "    "));
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
