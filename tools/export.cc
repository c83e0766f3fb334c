// graft export
#include <algorithm>

#include "adapters/adapter_file.h"
#include "adapters/hf/peft_writer.h"
#include "adapters/in_part.h"
#include "runtime/io/fresh_directory.h"
#include "tools/commands.h"
#include "tools/lib/merge_report.h"
#include "tools/lib/model_options.h"
#include "tools/lib/output.h"
#include "tools/lib/progress.h"
#include "tools/lib/report.h"
#include "train/proof.h"
#include "train/run_dir.h"

namespace graft {
namespace {

struct ExportOptions {
  ModelChoice choice;
  std::string format, out, data, weights;
  int transformers = 0;  // 0 = as the adapter came, else 5
  bool merged = false;
};

void CheckHuggingFaceCan(const LoadedModel& m) {
  if (m.layout != Layout::kHuggingFace) CheckExpressible(m, Layout::kHuggingFace);
  if (m.is_bert() && m.bert().pool != "pooler" && m.params.Has("head.weight"))
    Fail(
        "{}: pools by '{}', but transformers' BERT classifies by its pooler alone; hint: graft "
        "fuse, or --format graft",
        m.source, m.bert().pool);
}

std::string SourceOf(const ExportOptions& o) {
  return o.choice.run.empty() ? o.choice.model : o.choice.run;
}

// Erases the random head, which was there for the proof.
void EraseHead(FusedModel* fused) {
  for (const std::string& name : fused->params.names())
    if (name.starts_with("head.")) fused->params.Erase(name);
  fused->model.params = fused->params;
  fused->model.labels.clear(), fused->facts.labels.clear();
}

// Writes a plain model in another layout, or a merged run or adapter, into `directory`.
nlohmann::json ExportModel(const ExportOptions& o, OpenedModel opened, const std::string& directory,
                           const CommonOptions& common) {
  const bool plain = opened.method.empty(), headless = opened.headless;
  FusedModel fused;
  if (plain) {
    fused.params = opened.model.params, fused.facts = opened.facts;
    fused.model = std::move(opened.model);
  } else {
    const FileDType weights = ParseWeights(o.weights.empty() ? "f32" : o.weights, opened.model);
    ProofInputs inputs = OpenProofInputs(opened, o.data, RunOf(o.choice));
    fused = FuseOn(inputs, std::move(opened), common.memory_budget, weights, ProgressOf(common));
  }
  if (headless) EraseHead(&fused);
  std::string model_file = o.out;
  if (o.format == "hf") {
    CheckHuggingFaceCan(fused.model);
    const bool same_layout = fused.model.layout == Layout::kHuggingFace;
    ToLayout(fused.model, Layout::kHuggingFace);
    // The keys of a backbone have no root. With a head the model is of another class, whose keys
    // have one.
    if (headless && !same_layout) fused.model.root.clear();
    if (!headless && fused.model.root.empty()) fused.model.root = HfRootFor(fused.model);
    SaveFused(fused, directory);
    for (const std::string& note : OtherInTransformers(fused)) Say(common, "note: " + note);
  } else {
    ToLayout(fused.model, Layout::kTimm);
    model_file += "/model.safetensors";
    SaveFused(fused, directory + "/model.safetensors");
  }
  nlohmann::json json{{"run", SourceOf(o)},
                      {"format", o.format},
                      {"out", o.out},
                      {"model", model_file},
                      {"merged", !plain}};
  if (!plain) json.update(ProofJson(fused));
  return json;
}

// Names modules as the adapter has them, unless --transformers asks for other names.
PeftPlan PlanExport(const ExportOptions& o, const OpenedModel& opened,
                    const std::vector<std::string>& names) {
  const LoadedModel& m = opened.model;
  CheckHuggingFaceCan(m);
  // transformers' DINOv2 resamples by itself, as Graft does for it.
  const bool resamples = m.layout == Layout::kHuggingFace && !m.is_bert() && m.vit().layer_scale &&
                         std::ranges::find(names, "pos_embed") == names.end();
  for (const KeyLedger::Reshaped& change : m.ledger.reshaped)
    if (change.key == "pos_embed" && !resamples)
      Fail(
          "{}: {}, which an adapter of peft cannot say; hint: --format hf --merged, or train at "
          "the model's own image size",
          opened.description, change.why);
  const std::optional<PeftSource>& source = opened.peft;
  const HfNaming naming = source && o.transformers == 0
                              ? source->naming
                              : HfNamingFor(m, o.transformers == 0 ? 5 : o.transformers);
  PeftPlan plan =
      PlanPeft(opened.method, names, naming, source ? source->base : opened.facts.model);
  if (!source) return plan;
  plan.config.task_type = source->task_type;
  for (size_t i = 0; o.transformers == 0 && i < source->copies.size(); ++i) {
    const FileTensor& t = source->file.Get(source->copies[i]);
    plan.copies.push_back({t.name, t.dtype, t.shape, source->file.bytes(t)});
  }
  return plan;
}

nlohmann::json ExportAdapter(const ExportOptions& o, const OpenedModel& opened,
                             const std::string& directory) {
  if (opened.method.empty())
    FailUsage("--format {} writes an adapter, {} has none; hint: --run or --adapter", o.format,
              opened.description);
  const bool masked_lm = opened.model.is_bert() && opened.model.bert().mask_rows > 0;
  if (masked_lm && (o.format == "hf-peft" || MasksWords(opened.facts)))
    FailUsage("--format {}: not of a masked-LM head; hint: --format hf --merged{}", o.format,
              opened.facts.objective.empty() ? ", or graft" : "");
  const ParamStore& params = opened.model.params;
  std::vector<std::string> names = opened.trained;
  // A fresh head belongs to the adapter even if it was frozen, as the base has another one. So does
  // the head of a peft adapter that is written in our own form, where class names choose between
  // the two.
  const bool whole_head = !opened.peft || o.format == "graft";
  for (const std::string& head : params.names())
    if (whole_head && head.starts_with("head.") &&
        std::find(names.begin(), names.end(), head) == names.end())
      names.push_back(head);
  int64_t count = 0;
  for (const std::string& name : names) count += params.shape(name).size();
  StringMap metadata = ModelMetadata(opened.model, opened.facts);
  if (opened.headless) metadata.erase("graft.labels");
  std::string file = o.out;
  if (o.format == "hf-peft") {
    WritePeft(directory, PlanExport(o, opened, names), params, metadata);
  } else {
    file += "/adapter.safetensors";
    WriteAdapter(directory + "/adapter.safetensors", params, names, metadata,
                 static_cast<int64_t>(opened.seed));
  }
  return {{"run", SourceOf(o)}, {"format", o.format},      {"out", o.out},       {"adapter", file},
          {"merged", false},    {"tensors", names.size()}, {"parameters", count}};
}

bool IsAdapterFormat(const std::string& format) { return format == "graft" || format == "hf-peft"; }

void CheckOptions(const ExportOptions& o) {
  const std::vector<std::string> formats{"hf-peft", "hf", "timm", "graft"};
  const std::string& f = o.format;
  if ((o.choice.run.empty() && o.choice.model.empty()) || o.out.empty())
    FailUsage("export needs --run RUN (or --model M) and --out DIR; example: graft export --help");
  if (f.empty()) FailUsage("export needs --format: hf-peft, hf, timm or graft");
  if (std::find(formats.begin(), formats.end(), f) == formats.end())
    FailUsage("--format: '{}'{}", f, DidYouMean(f, formats));
  if (IsAdapterFormat(f) && o.merged)
    FailUsage("--format {} writes an adapter; --merged goes with hf and timm", f);
  const bool method = !o.choice.run.empty() || !o.choice.adapter.empty();
  if (o.merged && !method)
    FailUsage("--merged: {} has nothing to merge; hint: --run or --adapter, or leave it out",
              o.choice.model);
  if (!o.weights.empty() && !o.merged)
    FailUsage("--weights {}: goes with --merged; all else is written as it is", o.weights);
  if (!IsAdapterFormat(f) && method && !o.merged)
    FailUsage(
        "--format {} writes a plain model: add --merged, or use --format hf-peft or "
        "graft for the adapter alone",
        f);
  if (o.transformers != 0 && f != "hf-peft") FailUsage("--transformers goes with --format hf-peft");
}

void SayModel(const nlohmann::json& json, const CommonOptions& common) {
  const std::string model = json["model"].get<std::string>();
  if (json["merged"].get<bool>())
    Say(common, fmt::format("{}: merged and proved on {} inputs, weights in {}, relative error "
                            "{:.2g}, equal top-1 {}",
                            model, json["n"].get<int64_t>(), json["weights"].get<std::string>(),
                            json["relative_error"].get<double>(),
                            Percent(json["top1_agreement"].get<double>())));
  else
    Say(common, fmt::format("{}: written", model));
  Say(common, fmt::format("next: graft inspect {}", ShellWord(model)));
}

void Run(const ExportOptions& o, const CommonOptions& common) {
  CheckOptions(o);
  ApplyCommonOptions(common);
  ModelChoice choice = o.choice;
  choice.headless = o.format != "graft";  // our adapter is for a classifier
  OpenedModel opened = OpenModel(With(choice, common), InputKind::kImages);
  SayNotices(common, opened.model.notices);
  if (IsAdapterFormat(o.format) && !opened.method.empty()) ReduceMethod(&opened);
  FreshDirectory directory(o.out);
  if (!IsAdapterFormat(o.format)) {
    const nlohmann::json json = ExportModel(o, std::move(opened), directory.path(), common);
    directory.Keep();
    PrintJson(common, json);
    return SayModel(json, common);
  }
  const nlohmann::json json = ExportAdapter(o, opened, directory.path());
  directory.Keep();
  const std::string adapter = json["adapter"].get<std::string>();
  PrintJson(common, json);
  Say(common, fmt::format("{}: {} tensors, {} parameters", adapter, json["tensors"].get<size_t>(),
                          Grouped(json["parameters"].get<int64_t>())));
  if (opened.headless)
    return Say(common, fmt::format("next: graft inspect {} --adapter {}",
                                   ShellWord(opened.facts.model), ShellWord(adapter)));
  const std::string& tokenizer = opened.facts.tokenizer;
  Say(common, fmt::format("next: graft predict --model {} --adapter {}{} {}",
                          ShellWord(opened.facts.model), ShellWord(adapter),
                          tokenizer.empty() ? "" : " --tokenizer " + ShellWord(tokenizer),
                          opened.model.is_bert() ? "--text \"...\"" : "photo.jpg"));
}

}  // namespace

void AddExportCommand(CLI::App& app, CommonOptions& common) {
  CLI::App* command = app.add_subcommand(
      "export", "write a run, adapter or model in a form that other programs read");
  auto o = std::make_shared<ExportOptions>();
  AddModelOptions(*command, o->choice);
  command->add_option("--format", o->format,
                      "the adapter alone: hf-peft or graft; a plain model: hf or timm");
  command->add_option("--out", o->out, "directory to create");
  command
      ->add_option("--transformers", o->transformers,
                   "hf-peft: name modules as this release does (default: 5, or as they came)")
      ->check(CLI::IsMember({4, 5}));
  command->add_flag("--merged", o->merged,
                    "merge the method into the weights first, as graft fuse does");
  command->add_option("--weights", o->weights, kWeightsHelp);
  command->add_option("--data", o->data,
                      "data set for the proof of the merge (default: the run's)");
  AddCommonOptions(*command, common);
  command->footer(
      "Example:\n  graft export --run runs/a --format hf --merged --out exported/hf\n"
      "  graft export --run runs/a --format hf-peft --out exported/adapter");
  command->callback([o, &common] { Run(*o, common); });
}

}  // namespace graft
