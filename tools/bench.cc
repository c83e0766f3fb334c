// graft bench: methods over many tasks, by written protocols.
#include "tools/commands.h"
#include "tools/lib/suite_command.h"

namespace graft {
namespace {

// Adds a sub-command of this kind, whose callback runs the suite.
std::pair<CLI::App*, std::shared_ptr<SuiteCommand>> AddKind(CLI::App& bench, const char* kind,
                                                            const char* help,
                                                            CommonOptions& common) {
  CLI::App* command = bench.add_subcommand(kind, help);
  auto suite = std::make_shared<SuiteCommand>();
  suite->request.kind = kind;
  command->callback([command, suite, &common] { RunSuiteCommand(*command, *suite, common); });
  return {command, suite};
}

void AddTasks(CLI::App& command, SuiteRequest& r, const char* data) {
  command.add_option("--data", r.config.data, data);
  command.add_option("--tasks", r.tasks, "only these, joined by commas")->delimiter(',');
}

void AddVtab(CLI::App& bench, CommonOptions& common) {
  const auto [command, suite] =
      AddKind(bench, "vtab", "the 19 tasks of VTAB-1k, or those that are there", common);
  AddTasks(*command, suite->request,
           "directory of the tasks, each with train800.txt, val200.txt, train800val200.txt and "
           "test.txt");
  AddSuiteOptions(*command, *suite, true);
  command->add_flag("--published", suite->published, "print the published figures beside ours");
  AddCommonOptions(*command, common);
  command->footer(
      "Example:\n  graft bench vtab --model deit_tiny_patch16_224.safetensors --data vtab-1k/ "
      "--methods linear \"lora(r=8)\" ssf --seeds 3 --out suite/\n"
      "  graft bench vtab ... --select \"lr=1e-3|5e-3,r=4|8\" --dry-run");
}

void AddFewShot(CLI::App& bench, CommonOptions& common) {
  const auto [command, suite] =
      AddKind(bench, "few-shot", "few examples of each class, drawn or listed", common);
  AddTasks(*command, suite->request,
           "a task or a directory of tasks: lists train_meta.list.num_shot_K.seed_S, or images "
           "with a training and a test split");
  command
      ->add_option("--shots", suite->request.shots,
                   "examples of each class, joined by commas, or "
                   "all")
      ->delimiter(',');
  command->add_option("--images", suite->request.images,
                      "where the images of published lists are (default: DIR/images or DIR)");
  AddSuiteOptions(*command, *suite, true);
  AddCommonOptions(*command, common);
  command->footer(
      "Example:\n  graft bench few-shot --model deit_tiny_patch16_224.safetensors --data flowers/ "
      "--shots 1,2,4,8,16 --methods linear \"lora(r=8)\" --seeds 3 --out fs/");
}

void AddText(CLI::App& bench, CommonOptions& common) {
  const auto [command, suite] = AddKind(bench, "text", "tasks of labelled texts", common);
  AddTasks(*command, suite->request,
           "a task or a directory of tasks: tables train.tsv, dev.tsv, test.tsv and labels.txt");
  command
      ->add_option("--shots", suite->request.shots,
                   "examples of each class, joined by commas, or all (the default)")
      ->delimiter(',');
  AddSuiteOptions(*command, *suite, true);
  AddCommonOptions(*command, common);
  command->footer(
      "Example:\n  graft bench text --model minilm/ --data text/ --tasks sst2,trec6 --shots "
      "16,32,all --methods \"lora(r=8)\" bitfit --out tx/");
}

void AddShift(CLI::App& bench, CommonOptions& common) {
  const auto [command, suite] =
      AddKind(bench, "shift", "trained on one domain, tested on others", common);
  SuiteRequest& r = suite->request;
  command->add_option("--train", r.config.data, "the domain to train on");
  command->add_option("--test", r.test, "other domains with the same classes");
  command
      ->add_option("--mask", r.masks,
                   "NAME=FILE: the domain NAME has only the classes whose numbers FILE lists, as "
                   "ImageNet-A and -R do; may be repeated")
      ->allow_extra_args(false);
  AddSuiteOptions(*command, *suite, true);
  AddCommonOptions(*command, common);
  command->footer(
      "Example:\n  graft bench shift --model deit_tiny_patch16_224.safetensors --train mnist/ "
      "--test mnist_m/ usps/ --methods linear \"lora(r=8)\" --out shift/");
}

}  // namespace

void AddBenchCommand(CLI::App& app, CommonOptions& common) {
  CLI::App* command =
      app.add_subcommand("bench", "methods over many tasks: vtab, few-shot, text, shift");
  command->require_subcommand(1);
  AddVtab(*command, common);
  AddFewShot(*command, common);
  AddText(*command, common);
  AddShift(*command, common);
  AddReport(*command, common);
  command->footer(
      "Examples:\n  graft bench vtab --model deit_tiny_patch16_224.safetensors --data vtab-1k/ "
      "--methods linear \"lora(r=8)\" --seeds 3 --out suite/\n"
      "  graft bench report suite/ --out report.html");
}

void AddAblateCommand(CLI::App& app, CommonOptions& common) {
  CLI::App* command = app.add_subcommand("ablate", "one method with every combination of options");
  auto suite = std::make_shared<SuiteCommand>();
  SuiteRequest& r = suite->request;
  r.kind = "ablate", r.methods = {"lora"};
  command->add_option("--data", r.config.data, "the task: images or labelled texts");
  TextOrFile(command->add_option("--method", r.methods.front(), "what varies: METHOD, or @FILE"))
      ->capture_default_str();
  command
      ->add_option("--over", r.over,
                   "OPTION=V|V of the method or of training, joined by commas; all combinations")
      ->allow_extra_args(false);
  command->add_option("--split", r.split, "what is measured (default: the validation split)");
  AddSuiteOptions(*command, *suite, false);
  AddCommonOptions(*command, common);
  command->footer(
      "Example:\n  graft ablate --model deit_tiny_patch16_224.safetensors --data vtab-1k/cifar "
      "--method \"adaptformer(r=8)\" --over \"act=none|relu\" --seeds 3 --out a/");
  command->callback([command, suite, &common] { RunSuiteCommand(*command, *suite, common); });
}

}  // namespace graft
