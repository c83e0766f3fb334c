// graft fuse
#include <optional>

#include "adapters/adapter_file.h"
#include "adapters/base_hash.h"
#include "adapters/in_part.h"
#include "adapters/unmerge.h"
#include "runtime/io/files_read.h"
#include "runtime/io/fresh_directory.h"
#include "tools/commands.h"
#include "tools/lib/merge_report.h"
#include "tools/lib/model_options.h"
#include "tools/lib/output.h"
#include "tools/lib/progress.h"
#include "train/proof.h"
#include "train/run_dir.h"

namespace graft {
namespace {

struct FuseFlags {
  ModelChoice choice;
  std::string out, data, undo, weights = "f32";
  bool keep_base = false, partial = false;
};

// The merged model has the form of the base, and its name must not promise another one.
void CheckOut(const std::string& out, const OpenedModel& opened) {
  const Layout layout = opened.model.layout;
  const auto refuse = [&](const char* form, const char* name) {
    FailUsage("--out {}: fuse writes {}, the form of {}; expected a name that {}", out, form,
              opened.facts.model, name);
  };
  const bool npz = out.ends_with(".npz");
  if (layout == Layout::kHuggingFace) {
    if (npz || out.ends_with(".safetensors")) refuse("a directory", "is no file's");
    return;
  }
  if (layout == Layout::kJax && !npz) refuse("an .npz file", "ends with .npz");
  if (layout != Layout::kJax && npz) refuse("a safetensors file", "does not end with .npz");
  for (const char* pickle : {".bin", ".pt", ".pth", ".ckpt"})  // which nothing would read
    if (out.ends_with(pickle)) refuse("a safetensors file", "is not that of a pickle");
}

// The directory of the adapter that --partial leaves beside the fused model.
std::string RestPath(const std::string& out) {
  return (out.ends_with('/') ? out.substr(0, out.size() - 1) : out) + ".adapter";
}

// Splits off what does not fold; returns nothing if everything does.
std::optional<OpenedModel> SplitOff(const FuseFlags& o, OpenedModel* opened) {
  if (!o.partial) return {};
  const MethodParts parts = SplitByFolds(*opened);
  if (parts.stays.empty()) return {};
  if (parts.folds.empty())
    throw Error(fmt::format("method '{}': no term of it folds into the base; hint: graft export "
                            "--format graft writes the adapter alone, reduced to what it needs "
                            "after training",
                            ToString(opened->method)),
                ErrorKind::kNotFoldable);
  OpenedModel rest = *opened;
  rest.method = parts.stays, rest.facts.method = ToString(parts.stays);
  opened->method = parts.folds, opened->facts.method = ToString(parts.folds);
  ReduceMethod(&rest);
  return rest;
}

// Proves that the fused base with the rest computes what the whole does, and writes the rest.
void SaveRest(const FuseFlags& o, const FusedModel& fused, OpenedModel& whole, OpenedModel rest,
              const LogitsOf& logits, const std::string& base, FreshDirectory& directory) {
  constexpr double kBound = 10 * kFuseTolerance;
  // What the folded terms have made of the head is part of the base now, and so of the adapter.
  const std::vector<std::string> of_base = BuildModel(fused.model.config).ParamNames();
  for (const std::string& name : AdapterNames(rest))
    if (std::ranges::find(of_base, name) != of_base.end())
      rest.model.params.SetShared(name, fused.params, name);
  const double error = ErrorInPart(whole, fused, rest, logits);
  if (!(error <= kBound))
    throw Error(fmt::format("the merge in part is not proved: logits differ by {:.3g} relative "
                            "(bound {:g}); nothing was written",
                            error, kBound),
                ErrorKind::kProof);
  rest.facts.model = o.out, rest.facts.base_sha256 = BaseHash(base), rest.facts.arch.clear();
  StringMap metadata = ModelMetadata(rest.model, rest.facts);
  WriteAdapter(directory.path() + "/adapter.safetensors", rest.model.params, AdapterNames(rest),
               std::move(metadata), static_cast<int64_t>(rest.seed));
}

void Run(const FuseFlags& o, const CommonOptions& common) {
  if (o.out.empty()) FailUsage("fuse needs --out, the file to write");
  if (!o.undo.empty()) {
    const ModelChoice& c = o.choice;
    if (o.keep_base || o.partial || o.weights != "f32" ||
        !(c.run + c.model + c.adapter + c.arch + o.data).empty())
      FailUsage("--undo takes a fused file and --out, and no model, run, adapter, data or weights");
    UndoFuse(o.undo, o.out);
    PrintJson(common, {{"undo", o.undo}, {"out", o.out}});
    return Say(common, fmt::format("wrote {}: the base of {}", o.out, o.undo));
  }
  ApplyCommonOptions(common);
  OpenedModel opened = OpenModel(With(o.choice, common), InputKind::kDataset);
  SayNotices(common, opened.model.notices);
  CheckOutput(o.out);  // before the work
  // For a directory, what is kept of the base stands inside it.
  const bool directory_out = opened.model.layout == Layout::kHuggingFace;
  if (!directory_out) CheckOutputFile(o.out);
  if (o.keep_base && !directory_out) CheckOutputFile(KeptBasePath(o.out));
  const bool npz = opened.model.layout == Layout::kJax;
  CheckOut(o.out, opened);
  if (o.keep_base && opened.facts.model.starts_with("init:"))
    FailUsage("--keep-base: {} is no file", opened.facts.model);
  if (o.keep_base && npz)
    FailUsage("--keep-base: expected a safetensors base, found {}", opened.facts.model);
  std::optional<FreshDirectory> directory;
  if (directory_out) directory.emplace(o.out);
  const FileDType weights = ParseWeights(o.weights, opened.model);
  ProofInputs inputs = OpenProofInputs(opened, o.data, RunOf(o.choice));
  OpenedModel whole = opened;
  std::optional<OpenedModel> rest = SplitOff(o, &opened);
  std::optional<FreshDirectory> rest_directory;
  if (rest) rest_directory.emplace(RestPath(o.out));
  if (rest && weights != FileDType::kF32)
    FailUsage("--partial writes f32 weights, with which the adapter is proved");
  const WorkHook progress = ProgressOf(common);
  const LogitsOf logits = LogitsOn(inputs, whole, common.memory_budget, progress);
  const FusedModel fused =
      FuseOn(inputs, std::move(opened), common.memory_budget, weights, progress);
  const std::string out = directory ? directory->path() : o.out;
  SaveFused(fused, out);
  if (o.keep_base) KeepBase(fused.facts.model, out);
  if (rest) SaveRest(o, fused, whole, std::move(*rest), logits, out, *rest_directory);
  if (directory) directory->Keep();
  if (rest_directory) rest_directory->Keep();
  Say(common, fmt::format("merged {} into {}", fused.facts.method, fused.facts.model));
  for (const std::string& line :
       ProofLines(fused, inputs.random ? "random inputs (no data set)" : "inputs"))
    Say(common, "  " + line);
  Say(common, fmt::format("wrote {}", o.out));
  for (const std::string& note : OtherInTransformers(fused)) Say(common, "note: " + note);
  if (rest_directory)
    Say(common, fmt::format("wrote {0}: what does not fold; use: graft predict --model {1} "
                            "--adapter {0} ...",
                            ShellWord(RestPath(o.out)), ShellWord(o.out)));
  if (o.keep_base)
    Say(common, fmt::format("kept {}; undo: graft fuse --undo {} --out BASE", KeptBasePath(o.out),
                            ShellWord(o.out)));
  nlohmann::json json = ProofJson(fused);
  json["out"] = o.out;
  if (rest_directory) json["adapter"] = RestPath(o.out);
  PrintJson(common, json);
}

}  // namespace

void AddFuseCommand(CLI::App& app, CommonOptions& common) {
  CLI::App* command =
      app.add_subcommand("fuse", "merge a run or an adapter into its base model, and prove it");
  auto o = std::make_shared<FuseFlags>();
  AddModelOptions(*command, o->choice);
  command->add_option("--out", o->out, "file to write (a directory for a Hugging Face base)");
  command->add_option("--data", o->data, "data set of the proof (default: the run's)");
  command->add_option("--weights", o->weights, kWeightsHelp);
  command->add_flag("--keep-base", o->keep_base,
                    "also keep what the merge overwrites, so that it can be undone");
  command->add_flag("--partial", o->partial,
                    "fold what folds; what does not becomes an adapter, OUT.adapter");
  command->add_option("--undo", o->undo, "fused file or directory whose base to write to --out");
  AddForceOption(*command);
  AddCommonOptions(*command, common);
  command->footer(
      "Example:\n  graft fuse --run runs/a --out fused.safetensors\n"
      "  graft fuse --model vit/ --adapter peft-adapter/ --out merged/");
  command->callback([o, &common] { Run(*o, common); });
}

}  // namespace graft
