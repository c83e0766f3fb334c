// graft profile: what a step costs, node by node, beside what the machine can do.
#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>

#include "runtime/cpu.h"
#include "runtime/io/atomic_file.h"
#include "runtime/io/files_read.h"
#include "runtime/io/json.h"
#include "tools/commands.h"
#include "tools/lib/output.h"
#include "tools/profiles/compare.h"
#include "tools/profiles/numerics.h"
#include "tools/profiles/page.h"
#include "tools/profiles/stats.h"
#include "tools/profiles/sweep.h"
#include "tools/profiles/trace.h"

namespace graft {
namespace {

constexpr int kSlowerExit = 6;

struct ProfileOptions {
  ProfileWork work;
  int64_t top = 20;
  bool machine = false, refresh = false, numerics = false;
  std::vector<std::string> compare;
  std::optional<std::string> fail_over;
  std::optional<std::string> sweep;
  std::string out, html, trace, csv;
};

// --- what each option goes with

void CheckModes(const ProfileOptions& o) {
  const std::vector<std::pair<const char*, bool>> modes{{"--model", !o.work.model.empty()},
                                                        {"--machine", o.machine},
                                                        {"--compare", !o.compare.empty()},
                                                        {"--sweep", o.sweep.has_value()}};
  std::vector<std::string> given;
  for (const auto& [name, on] : modes)
    if (on) given.emplace_back(name);
  if (given.empty())
    FailUsage(
        "profile needs --model, e.g. init:vit_base_patch16_224 (or --machine, --compare, "
        "--sweep)");
  if (given.size() > 1)
    FailUsage("{} and {} are two commands: give one of them", given[0], given[1]);
  const auto of = [&](const char* option, bool on, const char* mode) {
    if (on && given[0] != mode) FailUsage("{} goes with {}, not with {}", option, mode, given[0]);
  };
  of("--fail-over", o.fail_over.has_value(), "--compare");
  of("--out", !o.out.empty(), "--model");
  of("--html", !o.html.empty(), "--model");
  of("--trace", !o.trace.empty(), "--model");
  of("--numerics", o.numerics, "--model");
  of("--csv", !o.csv.empty(), "--sweep");
  of("--method", !o.work.method.empty(), "--model");
  if (o.refresh && given[0] != "--model" && given[0] != "--machine")
    FailUsage("--refresh goes with --model and --machine, not with {}", given[0]);
}

// --- commands

void Compare(const ProfileOptions& o, const CommonOptions& common) {
  const double limit = o.fail_over ? ParsePercent(*o.fail_over) : 0;
  const StoredProfile before = ReadProfile(o.compare[0]), after = ReadProfile(o.compare[1]);
  const Comparison c = CompareProfiles(before, after);
  if (o.fail_over) CheckCanTell(before, after);
  Say(common, ComparisonText(c, limit, o.top));
  nlohmann::json json = ComparisonJson(c, limit);
  const bool failed = o.fail_over && IsSlower(c.total, limit);
  json["failed"] = failed;
  json["limit"] = o.fail_over ? nlohmann::json(limit) : nlohmann::json();
  PrintJson(common, json);
  if (!failed) return;
  const bool disturbed = !before.disturbances.empty() || !after.disturbances.empty();
  Complain(
      fmt::format("{} is slower than {} by {:.1f} %, which is over {} and significant (p = "
                  "{:.2g}){}",
                  o.compare[1], o.compare[0], 100 * c.total.share(), *o.fail_over, c.total.p,
                  disturbed ? "; the machine was disturbed, see the notes" : ""));
  throw CLI::RuntimeError(kSlowerExit);
}

std::vector<std::string> Disturbed(const std::vector<std::string>& how) {
  if (how.empty()) return {};
  return {fmt::format("warning: the machine is disturbed, figures are unsure: {}",
                      fmt::join(how, "; "))};
}

// The warnings, if there are any.
std::vector<std::string> Warnings(const MachineFacts& machine,
                                  const std::vector<double>& step_ms = {}) {
  constexpr double kWide = 0.05;
  std::vector<std::string> all = Disturbances(machine);
  const double median = Median(step_ms);
  if (const double spread = Spread(step_ms); spread > kWide * median)
    all.push_back(fmt::format("steps are {:.0f} % from their median", 100 * spread / median));
  return Disturbed(all);
}

void SayProfile(const ProfileOptions& o, const CommonOptions& common, const Profile& p,
                const MachineFacts& machine) {
  const double median = Median(p.step_ms), gflops = p.cost.flops / median * 1e-6;
  Say(common,
      fmt::format("{} {} batch {} ({}): {:.1f} ms a step (min {:.1f}), {:.2f} "
                  "{}/s, {:.1f} GFLOP/s = {:.1f} % of the f32 peak",
                  p.architecture, o.work.method.empty() ? "inference" : o.work.method, o.work.batch,
                  p.plan, median, std::ranges::min(p.step_ms),
                  1e3 * static_cast<double>(o.work.batch) / median, p.length ? "texts" : "images",
                  gflops, 100 * gflops / machine.peak.gflops));
  Say(common,
      fmt::format("compiled in {:.1f} ms; planned {} MiB, peak memory of the process {} MiB",
                  p.compile_ms, p.planned_bytes >> 20, p.peak_bytes >> 20));
  const std::string none = NoneIsIn(ChooseDtype(common.dtype).dtype, p.products);
  if (!none.empty()) Say(common, "note: " + none);
  Say(common, CountersText(p.counters));
  Say(common, NodeTable(KindsOf(p.nodes), machine, ThreadsInside(p), o.top));
}

void WriteFiles(const ProfileOptions& o, const CommonOptions& common, const Profile& p,
                const MachineFacts& machine, const std::vector<std::string>& warnings,
                const std::optional<Numerics>& numerics, nlohmann::json* json) {
  if (!o.out.empty()) WriteFileAtomically(o.out, ShowJson(*json) + "\n");
  if (!o.html.empty())
    WriteFileAtomically(o.html, ProfilePage(o.work, p, machine, warnings, numerics).Html());
  if (!o.trace.empty()) WriteFileAtomically(o.trace, ChromeTrace(o.work, p));
  for (const auto& [key, file] : {std::pair("out", o.out), {"html", o.html}, {"trace", o.trace}}) {
    if (file.empty()) continue;
    Say(common, "wrote " + file);
    (*json)[key] = file;
  }
  if (p.lost_events)
    Say(common, fmt::format("note: the trace has the first {} calls, {} more were left out; hint: "
                            "fewer --steps",
                            p.events.size(), p.lost_events));
}

void ProfileModel(const ProfileOptions& o, const CommonOptions& common) {
  CheckOutputFiles({{"--out", o.out}, {"--html", o.html}, {"--trace", o.trace}});
  SayDtype(common);
  if (o.numerics) CheckNumerics(common);
  LoadedModel model = ProfiledModel(o.work, common);
  const MachineFacts machine = AskMachine(o.refresh);
  ForgetPeakResident();  // the arrays that bandwidth was measured by
  Say(common, MachineText(machine));
  const Profile p = MeasureProfile(o.work, common, model, !o.trace.empty());
  if (o.numerics && p.products == "f32")
    FailUsage("--numerics compares with f32; {}",
              NoneIsIn(ChooseDtype(common.dtype).dtype, p.products));
  const std::vector<std::string> warnings = Warnings(machine, p.step_ms);
  SayProfile(o, common, p, machine);
  for (const std::string& warning : warnings) Say(common, warning);
  nlohmann::json json = ProfileJson(o.work, common, model, p, machine);
  json["warnings"] = warnings;
  std::optional<Numerics> numerics;
  if (o.numerics) {
    numerics = MeasureNumerics(o.work, common, model);
    numerics->dtype = p.products;
    Say(common, NumericsText(*numerics, o.top));
    json["numerics"] = NumericsJson(*numerics);
  }
  WriteFiles(o, common, p, machine, warnings, numerics, &json);
  PrintJson(common, json);
}

void RunSweep(const ProfileOptions& o, const CommonOptions& common) {
  CheckOutputFiles({{"--csv", o.csv}});
  if (common.dtype != "f32")
    FailUsage("--dtype {}: of a sweep it stands in it: \"gemm ... dtype={}\"", common.dtype,
              common.dtype);
  const Sweep sweep = ParseSweep(*o.sweep);
  const nlohmann::json rows = RunSweep(sweep, common);
  Say(common, SweepText(rows));
  for (const std::string& line : LeftOut(sweep)) Say(common, "note: left out: " + line);
  const std::vector<std::string> warnings = Disturbed(SweepDisturbances(rows));
  for (const std::string& warning : warnings) Say(common, warning);
  nlohmann::json json{{"rows", rows}, {"left_out", LeftOut(sweep)}, {"warnings", warnings}};
  if (!o.csv.empty()) {
    WriteFileAtomically(o.csv, SweepCsv(rows));
    Say(common, "wrote " + o.csv);
    json["csv"] = o.csv;
  }
  PrintJson(common, json);
}

void Run(const ProfileOptions& o, const CommonOptions& common) {
  CheckModes(o);
  ApplyCommonOptions(common);
  if (!o.compare.empty()) return Compare(o, common);
  if (o.sweep) return RunSweep(o, common);
  if (!o.machine) return ProfileModel(o, common);
  const MachineFacts machine = AskMachine(o.refresh);
  Say(common, MachineText(machine));
  for (const std::string& warning : Warnings(machine)) Say(common, warning);
  PrintJson(common, MachineJson(machine));
}

void AddWorkOptions(CLI::App* command, ProfileWork& w) {
  command->add_option("--model", w.model, "model, e.g. init:vit_base_patch16_224");
  command->add_option("--method", w.method,
                      "profile a training step of this method (default: inference)");
  command->add_option("--arch", w.arch, "architecture, where the checkpoint does not tell");
  command->add_option("--batch-size", w.batch, "images or texts of a step")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  command
      ->add_option("--micro-batch", w.micro_batch,
                   "images or texts computed at once (default: chosen)")
      ->check(CLI::Range(1, 65536));
  command
      ->add_option("--length", w.length,
                   "tokens of a text (default: 64, or the model's positions if fewer)")
      ->check(CLI::Range(1, 65536));
  command->add_option("--steps", w.steps, "timed steps")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  command->add_option("--classes", w.classes, "of the head, with --method")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
}

}  // namespace

void AddProfileCommand(CLI::App& app, CommonOptions& common) {
  CLI::App* command =
      app.add_subcommand("profile", "time a training step or inference, node by node");
  auto o = std::make_shared<ProfileOptions>();
  AddWorkOptions(command, o->work);
  command->add_option("--top", o->top, "rows of the table")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  command->add_option("--out", o->out, "keep the profile as JSON, for --compare");
  command->add_option("--html", o->html,
                      "the profile as a page that needs no other file: roofline, kinds, nodes");
  command->add_option("--trace", o->trace,
                      "every kernel call as a trace for ui.perfetto.dev or about:tracing");
  command->add_option("--compare", o->compare, "two kept profiles, BEFORE AFTER")->expected(2);
  command->add_option("--fail-over", o->fail_over,
                      "with --compare: exit code 6 if a step is slower by more, e.g. 5%, and "
                      "significantly");
  command->add_flag("--numerics", o->numerics,
                    "with --dtype bf16 or int8: how far gradients and logits are from f32's");
  command->add_option("--sweep", o->sweep,
                      "products over shapes: \"gemm m=197|394 n=768 k=768 dtype=f32|bf16|int8 "
                      "threads=1|2 isa=avx512|avx2\"");
  command->add_option("--csv", o->csv, "with --sweep: a line for each point");
  command->add_flag("--machine", o->machine, "only what the machine can do");
  command->add_flag("--refresh", o->refresh, "measure the machine again, whatever is stored of it");
  AddForceOption(*command);
  AddCommonOptions(*command, common);
  command->footer(
      "Examples:\n  graft profile --model init:vit_base_patch16_224 --method \"lora(r=8)\" "
      "--batch-size 16\n  graft profile --model init:minilm_l6 --batch-size 32 --length 128 "
      "--steps 20 --out before.json\n  graft profile --compare before.json after.json --fail-over "
      "5%");
  command->callback([o, &common] { Run(*o, common); });
}

}  // namespace graft
