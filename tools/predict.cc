// graft predict
#include <sys/stat.h>

#include <algorithm>
#include <cmath>

#include "adapters/joint_model.h"
#include "data/check.h"
#include "data/splits.h"
#include "data/text_rows.h"
#include "runtime/io/npy.h"
#include "runtime/threads.h"
#include "tools/commands.h"
#include "tools/lib/data_report.h"
#include "tools/lib/model_options.h"
#include "tools/lib/output.h"
#include "tools/lib/report.h"
#include "train/evaluator.h"

namespace graft {
namespace {

struct PredictOptions {
  ModelChoice choice;
  std::vector<std::string> adapters, inputs, texts;
  int64_t top = 5;
  std::string logits;
  bool skip_bad = false;
};

std::string ShapeText(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ","));
}

// The path is no directory.
void CheckInput(const std::string& path) {
  struct stat s;
  if (stat(path.c_str(), &s) != 0) Fail("{}: no such file", path);
  if (S_ISDIR(s.st_mode))
    Fail(
        "{0}: a directory, expected images; hint: name the images ({0}/*.jpg), or graft eval "
        "--data {0} for a "
        "labelled data set",
        path);
}

// Normalised images. They are looked through once here, and read again when their turn comes.
NpyRows OpenArray(const std::string& path, const VitConfig& config) {
  NpyRows rows = NpyRows::Open(path);
  const int64_t side = config.image_size;
  const std::vector<int64_t>& shape = rows.shape();
  if (shape.size() != 4 || shape[0] < 1 || shape[1] != config.channels || shape[2] != side ||
      shape[3] != side)
    Fail("{}: expected normalised images of shape [n,{},{},{}], found {}", path, config.channels,
         side, side, ShapeText(shape));
  std::vector<float> image(rows.row_size());
  for (int64_t i = 0; i < rows.count(); ++i) {
    rows.Read(i, image.data());
    if (!std::ranges::all_of(image, [](float x) { return std::isfinite(x); }))
      Fail("{}: holds values that are not finite", path);
  }
  return rows;
}

// What to classify, in the order of the command line.
struct Inputs {
  std::vector<std::string> names;  // of each example
  std::vector<std::unique_ptr<BatchSource>> data;
  std::vector<size_t> group;  // of each example, its element of `data`, which has them in order
};

void Add(Inputs* inputs, const std::string& name, size_t group) {
  inputs->names.push_back(name), inputs->group.push_back(group);
}

// Without the images that cannot be read, which `skipped` gets.
PredictOptions WithoutBad(PredictOptions o, std::vector<Skipped>* skipped) {
  std::vector<std::string> images;
  for (const std::string& path : o.inputs)
    if (!path.ends_with(".npy")) images.push_back(path);
  for (const UnreadableImage& bad : FindUnreadable(images, Threads())) {
    skipped->push_back({bad.path, bad.reason});
    std::erase(o.inputs, bad.path);
  }
  if (o.inputs.empty()) Fail("none of the {} images can be read", images.size());
  return o;
}

Inputs OpenImages(const PredictOptions& o, const OpenedModel& opened) {
  if (!o.texts.empty())
    Fail("--text: {} is a vision transformer, which reads images", opened.description);
  const VitConfig& c = opened.model.vit();
  Inputs inputs;
  std::vector<Example> images;  // group 0, null without any
  inputs.data.resize(1);
  for (const std::string& path : o.inputs) {
    CheckInput(path);
    RecordRead(path);
    if (!path.ends_with(".npy")) {
      Add(&inputs, path, 0);
      images.push_back({path, 0});
      continue;
    }
    NpyRows rows = OpenArray(path, c);
    for (int64_t i = 0; i < rows.count(); ++i)
      Add(&inputs, rows.count() > 1 ? fmt::format("{}[{}]", path, i) : path, inputs.data.size());
    inputs.data.push_back(MakeArrayData(std::move(rows)));
  }
  if (!images.empty()) inputs.data[0] = MakeImageData(images, opened.preprocess, c);
  return inputs;
}

// A tab separates the two texts of a pair.
TextExample ParseText(const std::string& line, const std::string& where) {
  const size_t tab = line.find('\t');
  if (tab == std::string::npos) return {line, {}, 0};
  if (const auto tabs = std::count(line.begin(), line.end(), '\t'); tabs > 1)
    Fail("{}: expected a text, or two with a tab between them, found {} columns", where, tabs + 1);
  return {line.substr(0, tab), line.substr(tab + 1), 0};
}

// A class's number or name.
bool IsLabel(const std::string& text, const OpenedModel& opened) {
  const std::vector<std::string>& names = opened.labels();
  const bool digits = !text.empty() && text.find_first_not_of("0123456789") == text.npos;
  return digits || std::ranges::find(names, text) != names.end();
}

Inputs OpenTexts(const PredictOptions& o, const OpenedModel& opened, const CommonOptions& common) {
  Inputs inputs;
  std::vector<TextExample> examples;
  const auto add = [&](const std::string& line, const std::string& where) {
    Add(&inputs, line, 0);
    CheckExampleCount(examples.size() + 1, where);
    examples.push_back(ParseText(line, where));
  };
  for (const std::string& text : o.texts) add(text, "--text");
  for (const std::string& path : o.inputs) {
    const size_t before = examples.size();
    const std::string file = ReadUtf8File(path, kMaxTableBytes);
    ForEachLine(file, [&](std::string_view line, size_t number) {
      add(std::string(line), fmt::format("{}:{}", path, number));
    });
    if (examples.size() == before) Fail("{}: expected a text in each line, found none", path);
    const auto read = std::span(examples).subspan(before);
    if (std::ranges::all_of(
            read, [&](const TextExample& e) { return e.second && IsLabel(*e.second, opened); }))
      Say(common,
          fmt::format("note: {}: the second column holds classes, but was read as the second text "
                      "of a pair; hint: graft eval reads labelled texts",
                      path));
  }
  inputs.data.push_back(MakeTextData(examples, opened.model, opened.facts));
  return inputs;
}

// Of each member [examples, classes], in the order of the command line.
using Logits = std::vector<std::vector<float>>;

// Of the logits, twice while they are put in order. Without a budget they have a bound of their
// own.
size_t LogitBytes(const JointModel& joint, const Inputs& inputs, const CommonOptions& common) {
  constexpr size_t kMost = size_t{1} << 30;
  const size_t n = inputs.names.size();
  size_t classes = 0;
  for (const JointModel::Member& m : joint.members)
    classes += static_cast<size_t>(Classes(m.opened.model.config));
  const size_t bytes = 2 * sizeof(float) * n * classes;
  if (common.memory_budget.empty() && bytes > kMost)
    Fail("{} inputs, of {} logits each: expected at most {} at once; hint: several calls", n,
         classes, kMost / (2 * sizeof(float) * classes));
  return bytes;
}

Logits ComputeLogits(JointModel& joint, Inputs& inputs, const CommonOptions& common) {
  const size_t held = LogitBytes(joint, inputs, common);
  std::vector<std::string> outputs;
  for (const JointModel::Member& m : joint.members) outputs.push_back(m.output);
  std::vector<Logits> of_group;
  for (const std::unique_ptr<BatchSource>& data : inputs.data) {
    of_group.emplace_back(outputs.size());
    if (!data) continue;
    const SessionOptions options =
        InferenceOptions(joint.graph, joint.params, joint.first().model.config, *data,
                         common.memory_budget, PassNames(), held);
    Evaluator evaluator(joint.graph, joint.params, options, PassNames());
    of_group.back() = evaluator.Outputs(*data, outputs);
  }
  Logits logits(outputs.size());
  for (size_t m = 0; m < outputs.size(); ++m) {
    const int64_t classes = Classes(joint.members[m].opened.model.config);
    std::vector<int64_t> taken(of_group.size());
    for (const size_t group : inputs.group) {
      const auto row = of_group[group][m].begin() + classes * taken[group]++;
      logits[m].insert(logits[m].end(), row, row + classes);
    }
    if (!std::all_of(logits[m].begin(), logits[m].end(), [](float x) { return std::isfinite(x); }))
      Fail(
          "{} gives logits that are not finite; the input's values are too large, or the weights "
          "are damaged",
          joint.members[m].opened.description);
  }
  return logits;
}

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

// The best classes of one example, as JSON and as lines.
struct Top {
  nlohmann::json json = nlohmann::json::array();
  TextTable table{{0, 1, 2}};
};

Top Describe(const OpenedModel& opened, std::span<const float> logits, size_t row, int64_t top) {
  const size_t classes = static_cast<size_t>(Classes(opened.model.config));
  const std::vector<std::string>& labels = opened.labels();
  Top described;
  for (const Choice& c : TopOf(logits.subspan(row * classes, classes), top)) {
    const bool named = !labels.empty();
    const nlohmann::json name = named ? nlohmann::json(labels[c.index]) : nullptr;
    described.json.push_back(
        {{"class", c.index}, {"name", name}, {"probability", c.probability}, {"logit", c.logit}});
    described.table.Add({fmt::format("{:.2f} %", 100 * c.probability),
                         fmt::format("{:.3f}", c.logit), fmt::format("class {}", c.index),
                         named ? labels[c.index] : ""});
  }
  return described;
}

nlohmann::json SayPredictions(const JointModel& joint, const Inputs& inputs, const Logits& logits,
                              int64_t top, const CommonOptions& common) {
  nlohmann::json predictions = nlohmann::json::array();
  for (size_t row = 0; row < inputs.names.size(); ++row) {
    const std::string& input = inputs.names[row];
    const Top described = Describe(joint.first(), logits[0], row, top);
    if (common.json) predictions.push_back({{"input", input}, {"top", described.json}});
    Say(common, input + "\n" + described.table.Lines("  "));
  }
  return {{"predictions", predictions}};
}

// What the adapters share and what is each one's own.
nlohmann::json DescribeSharing(const JointModel& joint, const CommonOptions& common) {
  nlohmann::json adapters = nlohmann::json::array();
  TextTable table({1});
  for (const JointModel::Member& m : joint.members) {
    adapters.push_back({{"adapter", m.name},
                        {"method", m.opened.facts.method},
                        {"classes", Classes(m.opened.model.config)},
                        {"own_nodes", m.own.nodes},
                        {"own_parameters", m.own.values}});
    table.Add({m.name, fmt::format("{} nodes", m.own.nodes),
               fmt::format("and {} parameters of its own", Grouped(m.own.values))});
  }
  Say(common, fmt::format("{} adapters, {} nodes of {} shared\n{}", joint.members.size(),
                          joint.shared_nodes, joint.graph.live_nodes(), table.Lines("  ")));
  return adapters;
}

nlohmann::json SayOfAdapters(const JointModel& joint, const Inputs& inputs, const Logits& logits,
                             int64_t top, const CommonOptions& common) {
  const nlohmann::json adapters = DescribeSharing(joint, common);
  nlohmann::json predictions = nlohmann::json::array();
  for (size_t row = 0; row < inputs.names.size(); ++row) {
    nlohmann::json by_adapter = nlohmann::json::array();
    std::string text = inputs.names[row];
    for (size_t m = 0; m < joint.members.size(); ++m) {
      const Top described = Describe(joint.members[m].opened, logits[m], row, top);
      by_adapter.push_back({{"adapter", joint.members[m].name}, {"top", described.json}});
      text += fmt::format("\n  {}\n{}", joint.members[m].name, described.table.Lines("    "));
    }
    if (common.json)
      predictions.push_back({{"input", inputs.names[row]}, {"adapters", by_adapter}});
    Say(common, text);
  }
  return {{"predictions", predictions},
          {"adapters", adapters},
          {"nodes", joint.graph.live_nodes()},
          {"shared_nodes", joint.shared_nodes}};
}

// One array in an .npy; of several adapters, which may have different classes, an .npz.
void WriteLogits(const std::string& path, const JointModel& joint, const Logits& logits,
                 size_t examples) {
  const auto array = [&](const std::string& name, size_t m) {
    const int64_t classes = Classes(joint.members[m].opened.model.config);
    return ToWrite<float>(name, {static_cast<int64_t>(examples), classes}, logits[m]);
  };
  const bool several = logits.size() > 1;
  if (!several && !path.ends_with(".npz")) return WriteNpy(path, array("logits", 0));
  NpzWriter writer(path);
  for (size_t m = 0; m < logits.size(); ++m)
    writer.Add(array(several ? fmt::format("logits_{}", m) : "logits", m));
  writer.Close();
}

void CheckOptions(const PredictOptions& o) {
  if (o.inputs.empty() && o.texts.empty())
    FailUsage("predict needs images or .npy files, or texts; example: graft predict --help");
  if (o.adapters.size() > 1 && !o.logits.empty() && !o.logits.ends_with(".npz"))
    FailUsage(
        "--logits {}: the logits of several adapters are several arrays; hint: name an "
        ".npz, which has them as logits_0, logits_1, ... in the order of --adapter",
        o.logits);
}

void Run(const PredictOptions& o, const CommonOptions& common) {
  if (o.choice.preprocess == "list") return PrintPreprocessPresets(common);
  CheckOptions(o);
  ApplyCommonOptions(common);
  JointModel joint = OpenJointModel(With(o.choice, common), o.adapters, InputKind::kImages,
                                    common.disabled_passes);
  for (const JointModel::Member& m : joint.members) CheckProblem(m.opened);
  const OpenedModel& opened = joint.first();
  SayNotices(common, opened.model.notices);
  std::vector<Skipped> skipped;
  const bool look = o.skip_bad && !opened.model.is_bert();
  Inputs inputs = opened.model.is_bert() ? OpenTexts(o, opened, common)
                                         : OpenImages(look ? WithoutBad(o, &skipped) : o, opened);
  SaySkipped(common, skipped);
  const bool images = !opened.model.is_bert() && inputs.data[0];
  if (images) Say(common, PreprocessText(opened.facts));
  if (!o.logits.empty()) RefuseOverwriting(o.logits);  // before the work
  const Logits logits = ComputeLogits(joint, inputs, common);
  if (images)
    if (const std::string notice = inputs.data[0]->notice(); !notice.empty())
      Say(common, "note: " + notice);
  if (!o.logits.empty()) WriteLogits(o.logits, joint, logits, inputs.names.size());
  const bool several = joint.members.size() > 1;
  nlohmann::json json =
      (several ? SayOfAdapters : SayPredictions)(joint, inputs, logits, o.top, common);
  if (look) json["skipped"] = SkippedJson(skipped);
  AddPreprocess(opened.facts, images, &json);
  PrintJson(common, json);
  if (!o.logits.empty()) Say(common, fmt::format("logits of all classes: {}", o.logits));
}

}  // namespace

void AddPredictCommand(CLI::App& app, CommonOptions& common) {
  CLI::App* command = app.add_subcommand("predict", "classify images or texts");
  auto o = std::make_shared<PredictOptions>();
  AddModelOptions(*command, o->choice, &o->adapters);
  command->add_option("inputs", o->inputs,
                      "images (JPEG, PNG, PNM) or .npy of normalised [n,3,H,W] float32; "
                      "for a BERT, files with a text in each line");
  command->add_option("--text", o->texts, "a text; a tab separates the two of a pair")
      ->allow_extra_args(false);
  command->add_option("--top", o->top, "classes to show")
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 20));
  command->add_option("--logits", o->logits,
                      "also write all logits, [n, classes] float32, to this .npy (.npz for several "
                      "adapters)");
  command->add_flag("--skip-bad", o->skip_bad, "leave out images that cannot be read");
  AddCommonOptions(*command, common);
  command->footer(
      "Example:\n  graft predict --run runs/a photo.jpg --top 3\n"
      "  graft predict --model deit_tiny_patch16_224.safetensors a.jpg b.png --logits out.npy\n"
      "  graft predict --run runs/s --text \"a moving and funny film\"\n"
      "  graft predict --model deit.safetensors --adapter cats/ --adapter dogs/ photo.jpg");
  command->callback([o, &common] { Run(*o, common); });
}

}  // namespace graft
