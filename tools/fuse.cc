// graft fuse
#include "tools/lib/common.h"
#include "tools/lib/fuser.h"

namespace graft {
namespace {

struct FuseOptions {
  std::string run, out, data, checkpoint = "last";
  bool partial = false;
};

void Run(const FuseOptions& o, const CommonOptions& common) {
  ApplyCommonOptions(common);
  const RunDir run = RunDir::Open(o.run);
  const FusedModel fused = FuseRun(run, o.checkpoint, o.data);
  SaveFused(fused, run, o.out);
  const FuseProof& p = fused.proof;
  Say(common, fmt::format("merged {} into {}", run.config().method, run.config().model));
  Say(common, fmt::format("  graph: {} nodes -> {}, the same as the plain model's", p.nodes_before,
                          p.nodes_after));
  Say(common, fmt::format("  logits on {} inputs: max difference {:.3g} ({:.3g} relative, bound "
                          "{:g}), top-1 agreement {:.1f} %",
                          p.n, p.max_abs_logit_difference, p.relative_error, kFuseTolerance,
                          100 * p.top1_agreement));
  Say(common, fmt::format("wrote {}", o.out));
  PrintJson(common, {{"max_abs_logit_difference", p.max_abs_logit_difference},
                     {"relative_error", p.relative_error},
                     {"top1_agreement", p.top1_agreement},
                     {"n", p.n},
                     {"nodes_before", p.nodes_before},
                     {"nodes_after", p.nodes_after},
                     {"out", o.out}});
}

}  // namespace

void AddFuseCommand(CLI::App& app, CommonOptions& common) {
  CLI::App* command = app.add_subcommand("fuse", "merge a run into its base model, and prove it");
  auto o = std::make_shared<FuseOptions>();
  command->add_option("--run", o->run, "run directory")->required();
  command->add_option("--out", o->out, "file to write (a directory for a Hugging Face base)")
      ->required();
  command->add_option("--data", o->data, "data set of the proof (default: the run's)");
  command->add_option("--checkpoint", o->checkpoint, "last or best")
      ->check(CLI::IsMember({"last", "best"}));
  command->add_flag("--partial", o->partial,
                    "fold what can be folded; every method of this version folds fully");
  AddCommonOptions(*command, common);
  command->footer("Example:\n  graft fuse --run runs/a --out fused.safetensors");
  command->callback([o, &common] { Run(*o, common); });
}

}  // namespace graft
