// graft models
#include "models/model.h"
#include "tools/commands.h"
#include "tools/lib/output.h"
#include "tools/lib/report.h"

namespace graft {
namespace {

// The number of parameters of a graph with a classifier of the configuration's classes; nothing is
// allocated.
int64_t Parameters(const ModelConfig& config) {
  const Graph graph = BuildModel(config);
  int64_t count = 0;
  for (const ValueId v : graph.Leaves(Role::kParam)) count += At(graph.shape(v), {}).size();
  return count;
}

struct ModelFields {
  int64_t width, depth, heads, classes;
};

ModelFields FieldsOf(const ModelConfig& config) {
  return std::visit(
      [](const auto& c) {
        return ModelFields{c.width, c.depth, c.heads, c.classes};
      },
      config);
}

void Run(const std::string& words, const CommonOptions& common) {
  nlohmann::json models = nlohmann::json::array();
  TextTable table({2, 3, 4, 5, 6});
  table.Add({"name", "kind", "width", "depth", "heads", "input", "parameters"});
  for (const std::string& name : ModelNames()) {
    if (!words.empty() && name.find(words) == name.npos) continue;
    const ModelConfig config = ModelByName(name);
    const ModelFields s = FieldsOf(config);
    const int64_t count = Parameters(config);
    nlohmann::json model{{"name", name},     {"width", s.width},    {"depth", s.depth},
                         {"heads", s.heads}, {"parameters", count}, {"classes", s.classes}};
    std::string input;
    if (const auto* vit = std::get_if<VitConfig>(&config)) {
      model["kind"] = "vit", model["image"] = vit->image_size, model["patch"] = vit->patch_size;
      input = fmt::format("{0}x{0}", vit->image_size);
    } else {
      const BertConfig& bert = std::get<BertConfig>(config);
      model["kind"] = "bert", model["positions"] = bert.positions;
      input = fmt::format("{} tokens", bert.positions);
    }
    table.Add({name, model["kind"], std::to_string(s.width), std::to_string(s.depth),
               std::to_string(s.heads), input, Grouped(count)});
    models.push_back(std::move(model));
  }
  if (models.empty())
    Fail("no architecture has '{}' in its name{}", words, DidYouMean(words, ModelNames()));
  PrintJson(common, {{"models", models}});
  Say(common, table.Lines(""));
  Say(common,
      "parameters: with the head, for the classes that checkpoints of this name mostly have\n"
      "use: --model init:NAME (seeded random weights), or --arch NAME beside a checkpoint");
}

}  // namespace

void AddModelsCommand(CLI::App& app, CommonOptions& common) {
  CLI::App* command = app.add_subcommand("models", "list the architectures that have a name");
  auto words = std::make_shared<std::string>();
  command->add_option("name", *words, "only names that contain this");
  AddCommonOptions(*command, common);
  HideModelOptions(*command);
  command->footer("Example:\n  graft models\n  graft models deit3 --json");
  command->callback([words, &common] { Run(*words, common); });
}

}  // namespace graft
