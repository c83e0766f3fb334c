// graft export
#include <algorithm>

#include "runtime/io/atomic_file.h"
#include "runtime/io/json.h"
#include "tools/lib/adapter_file.h"
#include "tools/lib/fuser.h"
#include "tools/lib/open_model.h"
#include "tools/lib/report.h"

namespace graft {
namespace {

struct ExportOptions {
  std::string run, checkpoint = "last", format, out, data;
  bool merged = false;
};

[[noreturn]] void Usage(const std::string& message) { throw Error(message, ErrorKind::kUsage); }

// preprocessor_config.json. Only CLIP's image processor scales the shorter side and then crops.
nlohmann::json HuggingFaceProcessor(const Preprocess& p) {
  nlohmann::json json{{"do_resize", true},
                      {"do_rescale", true},
                      {"do_normalize", true},
                      {"rescale_factor", 1.0 / 255},
                      {"resample", p.filter == Filter::kBicubic ? 3 : 2},
                      {"image_mean", p.mean},
                      {"image_std", p.std}};
  if (p.crop == 0) {
    json["image_processor_type"] = "ViTImageProcessor";
    json["size"] = {{"height", p.resize}, {"width", p.resize}};
  } else {
    json["image_processor_type"] = "CLIPImageProcessor";
    json["do_convert_rgb"] = true;
    json["size"] = {{"shortest_edge", p.resize}};
    json["do_center_crop"] = true;
    json["crop_size"] = {{"height", p.crop}, {"width", p.crop}};
  }
  return json;
}

nlohmann::json ExportMerged(const ExportOptions& o, const RunDir& dir) {
  FusedModel fused = FuseRun(dir, o.checkpoint, o.data);
  std::string model_file = o.out;
  if (o.format == "hf") {
    ToLayout(fused.model, Layout::kHuggingFace);
    SaveFused(fused, dir, o.out);
    WriteFileAtomically(
        o.out + "/preprocessor_config.json",
        DumpJson(HuggingFaceProcessor(ParsePreprocess(dir.config().preprocess)), 2) + "\n");
  } else {
    ToLayout(fused.model, Layout::kTimm);
    CreateFreshDirectory(o.out);
    model_file += "/model.safetensors";
    SaveFused(fused, dir, model_file);
  }
  return {{"run", o.run},
          {"format", o.format},
          {"out", o.out},
          {"model", model_file},
          {"merged", true},
          {"max_abs_logit_difference", fused.proof.max_abs_logit_difference},
          {"relative_error", fused.proof.relative_error},
          {"top1_agreement", fused.proof.top1_agreement},
          {"n", fused.proof.n}};
}

nlohmann::json ExportAdapter(const ExportOptions& o, const RunDir& dir,
                             const CommonOptions& common) {
  ModelChoice choice;
  choice.run = o.run, choice.checkpoint = o.checkpoint;
  OpenedModel opened = OpenModel(choice, common, InputKind::kImages);
  const SafetensorsFile weights = SafetensorsFile::Open(dir.file(o.checkpoint + ".safetensors"));
  std::vector<std::string> names;
  for (const FileTensor& t : weights.tensors()) names.push_back(t.name);
  // A fresh head belongs to the adapter even where it was frozen: the base has another one.
  for (const std::string& head : opened.model.params.names())
    if (head.starts_with("head.") && std::find(names.begin(), names.end(), head) == names.end())
      names.push_back(head);
  int64_t count = 0;
  for (const std::string& name : names) count += opened.model.params.shape(name).size();
  CreateFreshDirectory(o.out);
  const std::string file = o.out + "/adapter.safetensors";
  WriteAdapter(file, opened.model.params, names, ModelMetadata(opened.model, dir.config()),
               dir.config().seed);
  return {{"run", o.run},    {"format", o.format},      {"out", o.out},       {"adapter", file},
          {"merged", false}, {"tensors", names.size()}, {"parameters", count}};
}

void CheckOptions(const ExportOptions& o) {
  const std::vector<std::string> formats{"hf", "timm", "graft"};
  if (o.run.empty() || o.out.empty())
    Usage("export needs --run RUN and --out DIR; example: graft export --help");
  if (o.format == "hf-peft")
    Usage(
        "--format hf-peft: adapters for Hugging Face's peft come in a later version; hint: "
        "--format graft (our "
        "own adapter), or --format hf --merged (a plain Hugging Face model)");
  if (o.format.empty()) Usage("export needs --format: hf, timm or graft");
  if (std::find(formats.begin(), formats.end(), o.format) == formats.end())
    Usage(fmt::format("--format: '{}'{}", o.format, DidYouMean(o.format, formats)));
  if (o.format == "graft" && o.merged)
    Usage("--format graft writes an adapter; --merged goes with hf and timm");
  if (o.format != "graft" && !o.merged)
    Usage(
        fmt::format("--format {} writes a plain model: add --merged, or use --format graft for the "
                    "adapter alone",
                    o.format));
}

void Run(const ExportOptions& o, const CommonOptions& common) {
  CheckOptions(o);
  ApplyCommonOptions(common);
  const RunDir dir = RunDir::Open(o.run);
  if (o.format == "graft") {
    const nlohmann::json json = ExportAdapter(o, dir, common);
    PrintJson(common, json);
    Say(common,
        fmt::format("{}: {} tensors, {} parameters", json["adapter"].get<std::string>(),
                    json["tensors"].get<size_t>(), Grouped(json["parameters"].get<int64_t>())));
    Say(common, fmt::format("next: graft predict --model {} --adapter {} photo.jpg",
                            dir.config().model, json["adapter"].get<std::string>()));
    return;
  }
  const nlohmann::json json = ExportMerged(o, dir);
  PrintJson(common, json);
  Say(common,
      fmt::format("{}: merged and proved on {} inputs, relative error {:.2g}, equal top-1 {}",
                  json["model"].get<std::string>(), json["n"].get<int64_t>(),
                  json["relative_error"].get<double>(),
                  Percent(json["top1_agreement"].get<double>())));
  Say(common, fmt::format("next: graft eval --model {} --data {}", json["model"].get<std::string>(),
                          dir.config().data));
}

}  // namespace

void AddExportCommand(CLI::App& app, CommonOptions& common) {
  CLI::App* command =
      app.add_subcommand("export", "write a run in a form that other programs read");
  auto o = std::make_shared<ExportOptions>();
  command->add_option("--run", o->run, "run directory of graft train");
  command->add_option("--checkpoint", o->checkpoint, "last or best")->capture_default_str();
  command->add_option("--format", o->format,
                      "hf or timm (with --merged), or graft: the adapter alone");
  command->add_option("--out", o->out, "directory to create");
  command->add_flag("--merged", o->merged,
                    "merge the method into the weights first, as graft fuse does");
  command->add_option("--data", o->data,
                      "images for the proof of the merge (default: those of the run)");
  AddCommonOptions(*command, common);
  command->footer(
      "Example:\n  graft export --run runs/a --format hf --merged --out exported/hf\n"
      "  graft export --run runs/a --format graft --out exported/adapter");
  command->callback([o, &common] { Run(*o, common); });
}

}  // namespace graft
