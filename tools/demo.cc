// graft demo: the commands of a first hour in a minute or two, on images that it draws itself.
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "runtime/io/fresh_directory.h"
#include "runtime/threads.h"
#include "tools/commands.h"
#include "tools/lib/child.h"
#include "tools/lib/interrupts.h"
#include "tools/lib/output.h"
#include "tools/lib/report.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

// The model is large enough for methods to differ, and small enough for a minute.
constexpr const char* kModel = "init:vit_nano_patch8_32";
constexpr const char* kFirstTask = "shapes";
constexpr const char* kSecondTask = "texture";
struct DemoMethod {
  const char *method, *lr, *epochs;
};
constexpr DemoMethod kPretraining{"full", "2e-3", "12"};
constexpr DemoMethod kMethods[] = {{"linear", "1e-2", "10"},
                                   {"lora(r=8,targets=attn.*|mlp.*)", "5e-3", "10"},
                                   {"full", "1e-3", "10"}};

// The directory of the demo, which is removed at the end unless the user has named it.
class Workspace {
 public:
  explicit Workspace(const std::string& keep) : path_(keep), temporary_(keep.empty()) {
    if (!temporary_) {
      CreateFreshDirectory(path_);
      return;
    }
    std::error_code error;
    std::string name = (fs::temp_directory_path(error) / "graft-demo-XXXXXX").string();
    const char* wanted = std::getenv("TMPDIR");
    if (error)
      Fail("{}: no directory for temporary files: {}; hint: --keep DIR", wanted ? wanted : "TMPDIR",
           error.message());
    if (!mkdtemp(name.data())) Fail("{}: cannot make a directory: {}", name, std::strerror(errno));
    path_ = name;
  }
  ~Workspace() {
    std::error_code ignored;
    if (temporary_) fs::remove_all(path_, ignored);
  }
  Workspace(const Workspace&) = delete;
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
  bool temporary_;
};

class Demo {
 public:
  Demo(const Workspace& work, const CommonOptions& common) : work_(work), common_(common) {}
  nlohmann::json Run();

 private:
  // Runs one command and shows how far it is. Throws Error with the child's message if it fails.
  ChildResult Do(const std::string& title, std::vector<std::string> args);
  ChildResult Train(const std::string& title, const std::string& model, const std::string& data,
                    const DemoMethod& m, const std::string& run);
  double Accuracy(const std::string& run, const std::string& data);
  void Status(const std::string& text) const;
  nlohmann::json Compare();
  void Fuse(nlohmann::json& result);

  const Workspace& work_;
  const CommonOptions& common_;
  const bool terminal_ = isatty(STDERR_FILENO) != 0;
};

// Writes over one line on a terminal; elsewhere nothing stands between the steps' own lines.
void Demo::Status(const std::string& text) const {
  if (terminal_ && !common_.quiet) std::fprintf(stderr, "\r\033[K%s", text.c_str());
}

ChildResult Demo::Do(const std::string& title, std::vector<std::string> args) {
  args.insert(args.end(), {"--seed", std::to_string(common_.seed)});
  if (common_.threads > 0) args.insert(args.end(), {"--threads", std::to_string(common_.threads)});
  if (!common_.isa.empty()) args.insert(args.end(), {"--isa", common_.isa});
  if (!common_.memory_budget.empty())
    args.insert(args.end(), {"--memory-budget", common_.memory_budget});
  for (const std::string& pass : common_.disabled_passes)
    args.insert(args.end(), {"--disable-pass", pass});
  int64_t lines = 0;
  const ChildResult result = RunSelf(std::move(args), [&](const std::string& line) {
    if (!line.starts_with("epoch")) return;
    Status(fmt::format("  {}: {}", title, line));
    if (!terminal_ && ++lines % 10 == 0) Say(common_, fmt::format("    {}", line));
  });
  Status("");
  if (result.exit_code == 130 || Interrupted())
    throw Error("demo interrupted", ErrorKind::kInterrupted);
  if (result.exit_code != 0)
    throw Error(fmt::format("{}: {}", title, result.last_line),
                static_cast<ErrorKind>(result.exit_code));
  return result;
}

ChildResult Demo::Train(const std::string& title, const std::string& model, const std::string& data,
                        const DemoMethod& m, const std::string& run) {
  return Do(title, {"train", "--model", model, "--data", data, "--method", m.method, "--lr", m.lr,
                    "--epochs", m.epochs, "--batch-size", "32", "--out", run});
}

double Demo::Accuracy(const std::string& run, const std::string& data) {
  return Do("eval", {"eval", "--run", run, "--data", data}).json["accuracy"];
}

nlohmann::json Demo::Compare() {
  const std::string data = work_ / kSecondTask, base = work_ / "pretrained.safetensors";
  nlohmann::json rows = nlohmann::json::array();
  TextTable table({1, 2, 3, 4});
  table.Add({"  method", "test accuracy", "trainable parameters", "seconds", "peak memory"});
  for (const DemoMethod& m : kMethods) {
    const std::string run =
        work_ / std::string(m.method).substr(0, std::string_view(m.method).find('('));
    const ChildResult trained = Train(m.method, base, data, m, run);
    const double accuracy = Accuracy(run, data), seconds = trained.json["seconds"];
    const int64_t trains = trained.json["trainable_parameters"];
    rows.push_back({{"method", m.method},
                    {"accuracy", accuracy},
                    {"trainable_parameters", trains},
                    {"seconds", seconds},
                    {"peak_memory_bytes", trained.peak_memory_bytes}});
    table.Add({fmt::format("  {}", m.method), Percent(accuracy), Grouped(trains),
               fmt::format("{:.1f}", seconds), Megabytes(trained.peak_memory_bytes)});
    Say(common_, fmt::format("  {} done: {}", m.method, Percent(accuracy)));
  }
  Say(common_, "\n" + table.Lines(""));
  return rows;
}

void Demo::Fuse(nlohmann::json& result) {
  const std::string data = work_ / kSecondTask, fused = work_ / "fused.safetensors";
  const nlohmann::json proof =
      Do("fuse", {"fuse", "--run", work_ / "lora", "--data", data, "--out", fused}).json;
  const double accuracy = Do("eval", {"eval", "--model", fused, "--data", data}).json["accuracy"];
  Say(common_,
      fmt::format("\nThe LoRA branches folded into the weights: {} graph nodes became {}, those of "
                  "the plain model.\n"
                  "  Proof on {} images: logits differ by {:.1e} relative, equal top-1 for {}.\n"
                  "  Accuracy of the fused file: {}.",
                  proof["nodes_before"].get<int64_t>(), proof["nodes_after"].get<int64_t>(),
                  proof["n"].get<int64_t>(), proof["relative_error"].get<double>(),
                  Percent(proof["top1_agreement"].get<double>()), Percent(accuracy)));
  result["fuse"] = proof;
  result["fused_accuracy"] = accuracy;
}

nlohmann::json Demo::Run() {
  const auto start = std::chrono::steady_clock::now();
  nlohmann::json result;
  Say(common_,
      fmt::format("Drawing two small tasks: {} (8 figures) and {} (8 patterns), 32 x 32 pixels.",
                  kFirstTask, kSecondTask));
  Do("draw", {"data", "make", kFirstTask, "--out", work_ / kFirstTask, "--size", "32", "--train",
              "1600", "--val", "200", "--test", "400"});
  Do("draw", {"data", "make", kSecondTask, "--out", work_ / kSecondTask, "--size", "32", "--train",
              "480", "--val", "120", "--test", "600"});
  Say(common_, fmt::format("Training a nano ViT on {} from scratch ...", kFirstTask));
  const std::string first = work_ / "pretraining";
  const ChildResult trained = Train("pretraining", kModel, work_ / kFirstTask, kPretraining, first);
  result["pretraining_accuracy"] = Accuracy(first, work_ / kFirstTask);
  Do("fuse", {"fuse", "--run", first, "--out", work_ / "pretrained.safetensors"});
  Say(common_,
      fmt::format(
          "  {} on unseen figures, {:.0f} s, {} parameters.\nAdapting it to {} in three ways ...",
          Percent(result["pretraining_accuracy"]), trained.json["seconds"].get<double>(),
          Grouped(trained.json["trainable_parameters"].get<int64_t>()), kSecondTask));
  result["methods"] = Compare();
  Fuse(result);
  result["seconds"] =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  Say(common_, fmt::format("\n{:.0f} s in all, threads: {}. Next, with your own images (one folder "
                           "per class) and a real model:\n"
                           "  graft data check DIR\n"
                           "  graft train --model deit_tiny_patch16_224.safetensors --data DIR "
                           "--method \"lora(r=8)\" --out runs/a\n"
                           "  graft fuse --run runs/a --out fused.safetensors\n"
                           "  graft predict --model fused.safetensors photo.jpg\n"
                           "  graft inspect --methods",
                           result["seconds"].get<double>(), Threads()));
  return result;
}

void RunDemo(const std::string& keep, const CommonOptions& common) {
  ApplyCommonOptions(common);
  CatchInterrupts();
  const Workspace work(keep);
  PrintJson(common, Demo(work, common).Run());
  if (!keep.empty()) Say(common, fmt::format("Everything is kept in {}.", keep));
}

}  // namespace

void AddDemoCommand(CLI::App& app, CommonOptions& common) {
  CLI::App* command = app.add_subcommand(
      "demo", "train, compare, fuse and prove, in one or two minutes and without a download");
  auto keep = std::make_shared<std::string>();
  command->add_option("--keep", *keep, "directory to create and keep: data, runs, models");
  AddCommonOptions(*command, common);
  command->footer("Example:\n  graft demo\n  graft demo --keep demo-files");
  command->callback([keep, &common] { RunDemo(*keep, common); });
}

}  // namespace graft
