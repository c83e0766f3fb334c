// graft fuse
#include <optional>

#include "adapters/unmerge.h"
#include "runtime/io/files_read.h"
#include "runtime/io/fresh_directory.h"
#include "tools/commands.h"
#include "tools/lib/merge_report.h"
#include "tools/lib/model_options.h"
#include "tools/lib/output.h"
#include "train/proof.h"
#include "train/run_dir.h"

namespace graft {
namespace {

struct FuseFlags {
  ModelChoice choice;
  std::string out, data, undo, weights = "f32";
  bool keep_base = false;
};

// The form of the base is that of the merged model, and a name must not promise another one.
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

void Run(const FuseFlags& o, const CommonOptions& common) {
  if (o.out.empty()) FailUsage("fuse needs --out, the file to write");
  if (!o.undo.empty()) {
    const ModelChoice& c = o.choice;
    if (o.keep_base || o.weights != "f32" ||
        !(c.run + c.model + c.adapter + c.arch + o.data).empty())
      FailUsage("--undo takes a fused file and --out, and no model, run, adapter, data or weights");
    UndoFuse(o.undo, o.out);
    PrintJson(common, {{"undo", o.undo}, {"out", o.out}});
    return Say(common, fmt::format("wrote {}: the base of {}", o.out, o.undo));
  }
  ApplyCommonOptions(common);
  OpenedModel opened = OpenModel(With(o.choice, common), InputKind::kDataset);
  SayNotices(common, opened.model.notices);
  RefuseOverwriting(o.out);  // before the work
  if (o.keep_base) RefuseOverwriting(KeptBasePath(o.out));
  const bool npz = opened.model.layout == Layout::kJax;
  CheckOut(o.out, opened);
  if (o.keep_base && opened.facts.model.starts_with("init:"))
    FailUsage("--keep-base: {} is no file", opened.facts.model);
  if (o.keep_base && npz)
    FailUsage("--keep-base: expected a safetensors base, found {}", opened.facts.model);
  std::optional<FreshDirectory> directory;
  if (opened.model.layout == Layout::kHuggingFace) directory.emplace(o.out);
  const FileDType weights = ParseWeights(o.weights, opened.model);
  ProofInputs inputs = OpenProofInputs(opened, o.data, RunOf(o.choice));
  const FusedModel fused = FuseOn(inputs, std::move(opened), common.memory_budget, weights);
  const std::string out = directory ? directory->path() : o.out;
  SaveFused(fused, out);
  if (o.keep_base) KeepBase(fused.facts.model, out);
  if (directory) directory->Keep();
  Say(common, fmt::format("merged {} into {}", fused.facts.method, fused.facts.model));
  for (const std::string& line :
       ProofLines(fused, inputs.random ? "random inputs (no data set)" : "inputs"))
    Say(common, "  " + line);
  Say(common, fmt::format("wrote {}", o.out));
  if (o.keep_base)
    Say(common, fmt::format("kept {}; undo: graft fuse --undo {} --out BASE", KeptBasePath(o.out),
                            ShellWord(o.out)));
  nlohmann::json json = ProofJson(fused);
  json["out"] = o.out;
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
  command->add_option("--undo", o->undo, "fused file or directory whose base to write to --out");
  AddCommonOptions(*command, common);
  command->footer(
      "Example:\n  graft fuse --run runs/a --out fused.safetensors\n"
      "  graft fuse --model vit/ --adapter peft-adapter/ --out merged/");
  command->callback([o, &common] { Run(*o, common); });
}

}  // namespace graft
