// graft inspect
#include <algorithm>
#include <charconv>
#include <filesystem>

#include "adapters/method_graph.h"
#include "adapters/open_model.h"
#include "runtime/io/atomic_file.h"
#include "runtime/text.h"
#include "runtime/utf8.h"
#include "tools/commands.h"
#include "tools/lib/adapter_report.h"
#include "tools/lib/graph_diff.h"
#include "tools/lib/graph_dot.h"
#include "tools/lib/graph_svg.h"
#include "tools/lib/method_table.h"
#include "tools/lib/model_options.h"
#include "tools/lib/output.h"
#include "tools/lib/report.h"
#include "train/run_dir.h"

namespace graft {
namespace {

struct InspectOptions {
  std::string subject, model, adapter, arch, method, graph, block, pass, out;
  bool methods = false;
};

// What is looked at. For a run, the facts are those of its base, adapted to its task.
struct Subject {
  LoadedModel model;
  RunConfig config;
  std::string kind = "model";  // model | run
  std::string method;          // "" = none
};

Subject OpenSubject(const InspectOptions& o, const CommonOptions& common) {
  Subject s;
  s.method = o.method;
  if (!o.subject.starts_with("init:") && IsRunDirectory(o.subject)) {
    if (!o.arch.empty()) FailUsage("--arch goes with a model; a run knows its architecture");
    s.kind = "run";
    s.config = RunDir::Open(o.subject).config();
    s.model = OpenAdapted(s.config);
    if (s.method.empty()) s.method = s.config.method;
  } else {
    s.config.seed = common.seed;
    s.model = LoadToInspect(o.subject, o.arch, static_cast<uint64_t>(common.seed));
  }
  return s;
}

struct Rewritten {
  Graph before, after;
  std::vector<PassReport> reports;
  int64_t stored = 0;  // StoredCount
};

Rewritten ApplyTo(const Subject& s) {
  Rewritten r{BuildModel(s.model.config), {}, {}};
  if (s.method.empty()) {
    r.after = r.before, r.stored = TrainableCount(r.after);
    return r;
  }
  ParamStore scratch = s.model.params;
  const Method method = ParseMethod(s.method);
  const auto seed = static_cast<uint64_t>(s.config.seed);
  r.after = MethodGraph(s.model.config, {}, method, scratch, seed, &r.reports);
  r.stored = ReducedMethod(method) == method ? TrainableCount(r.after)
                                             : StoredCount(s.model.config, method, s.model.params,
                                                           seed);
  return r;
}

const char* LayoutName(const LoadedModel& m) {
  if (m.source.starts_with("init:")) return "random weights";
  return m.layout == Layout::kTimm  ? "timm names"
         : m.layout == Layout::kJax ? "names of the original .npz"
                                    : "Hugging Face names";
}

// Where a fact was found. A fact that nobody states is what every model of this kind has.
std::string SourceOf(const LoadedModel& m, const std::string& fact) {
  const auto it = m.fact_source.find(fact);
  if (it != m.fact_source.end()) return it->second;
  return m.source.starts_with("init:") ? "architecture name" : "usual for this layout";
}

// Calls f(name, value) for each field of the configuration.
void VisitFacts(const ModelConfig& config, const auto& f) {
  std::visit([&](const auto& c) { c.Visit(c, f); }, config);
}

std::string FactsText(const Subject& s) {
  TextTable table;
  VisitFacts(s.model.config, [&](const char* name, const auto& value) {
    table.Add({name, fmt::format("{}", value), SourceOf(s.model, name)});
  });
  return table.Lines("    ");
}

std::string MethodText(const Subject& s, const Rewritten& r) {
  const int64_t trains = TrainableCount(r.after), all = ParameterCount(r.after);
  std::string text = fmt::format("method {}\n", ToString(ParseMethod(s.method)));
  for (const PassReport& report : r.reports)
    text += fmt::format("  pass {}: {} rewrites, {} to {} nodes\n", report.name, report.rewrites,
                        report.nodes_before, report.nodes_after);
  text += fmt::format("  trains {} of {} parameters ({:.2f} %)\n", Grouped(trains), Grouped(all),
                      100 * static_cast<double>(trains) / static_cast<double>(all));
  if (r.stored != trains)
    text += fmt::format("  stores {} numbers after training\n", Grouped(r.stored));
  TextTable table({1, 3});
  for (const TrainableGroup& g : TrainableGroups(r.after))
    table.Add({g.name, std::to_string(g.tensors) + " x", g.shape, Grouped(g.numbers)});
  text += table.Lines("    ") + "\nrewrite (- before, + after)\n" + FoldedDiff(r.before, r.after);
  text.pop_back();
  return text;
}

std::string RunText(const RunConfig& c) {
  TextTable table;
  table.Add({"data", c.data});
  table.Add({"method", c.method});
  table.Add({"base", c.base_sha256.empty() ? c.model
                                           : fmt::format("{} (SHA-256 {}...)", c.model,
                                                         c.base_sha256.substr(0, 12))});
  table.Add({"seed", std::to_string(c.seed)});
  return table.Lines("  ");
}

// The transform of images, and where it was found; for a model, the one that its checkpoint states.
AdapterFacts StatedFacts(const Subject& s) {
  AdapterFacts facts = s.config;
  if (s.kind == "run") return facts;
  facts.preprocess = s.model.preprocess, facts.preprocess_source = s.model.preprocess_source;
  return facts;
}

std::string TransformText(const Subject& s) {
  const AdapterFacts facts = StatedFacts(s);
  if (!facts.preprocess.empty()) return PreprocessText(facts);
  if (!s.model.preprocess_problem.empty()) return "preprocess: " + s.model.preprocess_problem;
  const auto usual = [&](InputKind kind) {
    return ToString(ChoosePreprocess("", s.model, kind).value);
  };
  return fmt::format("preprocess: not stated; of data sets {}, of single images {}",
                     usual(InputKind::kDataset), usual(InputKind::kImages));
}

void Report(const Subject& s, const Rewritten& r, const InspectOptions& o,
            const CommonOptions& common) {
  const LoadedModel& m = s.model;
  Say(common, fmt::format("{}\n  {}, {} parameters, {}", o.subject, m.architecture(),
                          Grouped(ParameterCount(r.before)), LayoutName(m)));
  if (s.kind == "run") Say(common, RunText(s.config));
  Say(common, "  facts, and where each was found\n" + FactsText(s));
  if (!m.is_bert()) Say(common, "  " + TransformText(s));
  Say(common, KeysText(m.ledger));
  for (const std::string& notice : m.notices) Say(common, "  note: " + notice);
  for (const std::string& notice : m.training_notices) Say(common, "  note: " + notice);
  if (!m.labels.empty()) {
    const size_t shown = std::min<size_t>(m.labels.size(), 10);
    Say(common, fmt::format("  {}: {}{}", TaskOf(m.config) == kRegression ? "numbers" : "classes",
                            fmt::join(m.labels.begin(),
                                      m.labels.begin() + static_cast<ptrdiff_t>(shown), ", "),
                            m.labels.size() > shown ? ", ..." : ""));
  }
  if (!s.method.empty()) Say(common, MethodText(s, r));
}

nlohmann::json ReportJson(const Subject& s, const Rewritten& r, const InspectOptions& o) {
  using nlohmann::json;
  const LoadedModel& m = s.model;
  json facts = json::object(), passes = json::array(), groups = json::array();
  VisitFacts(m.config, [&](const char* name, const auto& value) {
    facts[name] = {{"value", value}, {"source", SourceOf(m, name)}};
  });
  for (const PassReport& p : r.reports)
    passes.push_back({{"name", p.name},
                      {"rewrites", p.rewrites},
                      {"nodes_before", p.nodes_before},
                      {"nodes_after", p.nodes_after}});
  for (const TrainableGroup& g : TrainableGroups(r.after))
    groups.push_back(
        {{"name", g.name}, {"shape", g.shape}, {"tensors", g.tensors}, {"numbers", g.numbers}});
  json report{{"subject", o.subject},
              {"kind", s.kind},
              {"architecture", m.architecture()},
              {"layout", m.layout == Layout::kTimm  ? "timm"
                         : m.layout == Layout::kJax ? "npz"
                                                    : "hf"},
              {"facts", facts},
              {"parameters", ParameterCount(r.before)},
              {"trainable_parameters", TrainableCount(r.after)},
              {"stored_parameters", r.stored},
              {"method", s.method.empty() ? json() : json(ToString(ParseMethod(s.method)))},
              {"passes", passes},
              {"trainable", groups},
              {"labels", m.labels},
              {"task", TaskOf(m.config)},
              {"keys", KeysJson(m.ledger)}};
  const AdapterFacts stated = StatedFacts(s);
  AddPreprocess(stated, !stated.preprocess.empty(), &report);
  return report;
}

// What one optimising pass, or each of them ("*"), makes of the graph of inference.
std::string PassText(const Subject& s, const std::string& pass) {
  ParamStore scratch = s.model.params;
  Graph g = s.method.empty() ? BuildModel(s.model.config)
                             : InferenceGraph(s.model.config, ParseMethod(s.method), scratch,
                                              static_cast<uint64_t>(s.config.seed));
  std::string text;
  PassManager passes = InferencePasses();
  passes.Dump(pass, [&](const std::string& diff) { text += diff; });
  passes.Run(g);
  return text;
}

// What a drawing shows: all blocks, or the scope of one, which is the first unless another is
// named. A plain graph in dot, which other programs read, has all.
std::string DrawnScope(const Subject& s, const InspectOptions& o) {
  if (o.block == "all" || (o.block.empty() && o.graph == "dot" && o.method.empty())) return "";
  const int64_t depth = std::visit([](const auto& c) { return c.depth; }, s.model.config);
  const std::string block = o.block.empty() ? "0" : o.block;
  int64_t number = -1;
  const auto [end, error] = std::from_chars(block.data(), block.data() + block.size(), number);
  if (error != std::errc() || end != block.data() + block.size() || number < 0 || number >= depth)
    FailUsage("--block: expected 0 to {} or all, found '{}'", depth - 1, block);
  return fmt::format("blocks.{}", number);
}

// With --method the text shows the rewrite: what it takes away and what it adds. Drawings mark what
// it adds.
std::string GraphText(const Subject& s, const Rewritten& r, const InspectOptions& o) {
  const Graph& g = r.after;
  const std::vector<std::string> forms{"text", "dot", "svg"};
  if (std::find(forms.begin(), forms.end(), o.graph) == forms.end())
    FailUsage("--graph: '{}'{}", o.graph, DidYouMean(o.graph, forms));
  if (o.graph == "text" && !o.block.empty()) FailUsage("--block goes with --graph svg or dot");
  if (!o.pass.empty()) {
    if (o.graph != "text") FailUsage("--pass goes with --graph text");
    return PassText(s, o.pass);
  }
  if (o.graph == "text") return o.method.empty() ? ToText(g) : FoldedDiff(r.before, r.after);
  const std::string scope = DrawnScope(s, o);
  const std::set<NodeId> added =
      o.method.empty() ? std::set<NodeId>{} : AddedNodes(r.before, r.after);
  return o.graph == "dot" ? ToDot(g, scope, added) : ToSvg(g, scope, added);
}

// `graft inspect --methods [NAME] [--model M]`; a word that names no method may be the model.
void ListMethods(const InspectOptions& o, const CommonOptions& common) {
  if (!(o.adapter + o.method + o.graph + o.block + o.pass + o.out).empty())
    FailUsage("--methods lists methods, and goes with a method's name and --model alone");
  MethodQuery query{o.subject, o.model};
  if (o.model.empty() && (o.subject.starts_with("init:") || std::filesystem::exists(o.subject)))
    query = {"", o.subject};
  if (query.model.empty() && !o.arch.empty()) FailUsage("--arch goes with a model");
  LoadedModel model;
  if (!query.model.empty()) {
    model = LoadToInspect(query.model, o.arch, static_cast<uint64_t>(common.seed));
    query.loaded = &model;
  }
  PrintJson(common, MethodsJson(query));
  Say(common, MethodsText(query));
}

void Run(InspectOptions o, const CommonOptions& common) {
  if (o.methods) return ListMethods(o, common);
  if (o.graph.empty() && !o.block.empty()) FailUsage("--block goes with --graph svg or dot");
  if (o.graph.empty() && !o.pass.empty()) FailUsage("--pass goes with --graph text");
  if (!o.subject.empty() && !o.model.empty()) FailUsage("inspect: expected one model, found two");
  if (o.subject.empty()) o.subject = o.model;
  if (o.subject.empty())
    FailUsage("inspect needs a model, a run, or --methods; example: graft inspect --help");
  const bool alone = o.adapter.empty();
  if (!o.subject.starts_with("init:") && alone &&
      (LooksLikeAdapter(o.subject) || (LooksLikePeft(o.subject) && !HoldsModelToo(o.subject)))) {
    if (!o.graph.empty() || !o.method.empty())
      FailUsage("{}: an adapter alone has no graph; inspect its base with --method instead",
                o.subject);
    return LooksLikePeft(o.subject) ? InspectPeft(o.subject, common)
                                    : InspectAdapter(o.subject, common);
  }
  if (!alone) {
    if (!o.graph.empty() || !o.method.empty())
      FailUsage("--adapter shows how an adapter fits, with its own method; without --{}",
                o.method.empty() ? "graph" : "method");
    return InspectAdapterOn(o.subject, o.arch, o.adapter, common);
  }
  const Subject s = OpenSubject(o, common);
  const Rewritten r = ApplyTo(s);
  nlohmann::json json = ReportJson(s, r, o);
  if (o.graph.empty()) {
    if (!o.out.empty()) FailUsage("--out goes with --graph");
    PrintJson(common, json);
    return Report(s, r, o, common);
  }
  const std::string text = EscapeControls(GraphText(s, r, o), "\n\t");
  if (!o.out.empty()) {
    WriteFileAtomically(o.out, text);
    json["graph_file"] = o.out;
    PrintJson(common, json);
    return Say(common,
               fmt::format("{}: graph of {}, {} nodes", o.out, o.subject, r.after.live_nodes()));
  }
  json["graph"] = text;
  PrintJson(common, json);
  if (!common.json) std::printf("%s", text.c_str());  // nothing else, so that it can be piped
}

}  // namespace

void AddInspectCommand(CLI::App& app, CommonOptions& common) {
  CLI::App* command = app.add_subcommand("inspect", "what a model, run, adapter or method is");
  auto o = std::make_shared<InspectOptions>();
  command->add_option("subject", o->subject,
                      "model, run, adapter file; with --methods a method's name");
  command->add_option("--model", o->model, "the same as the first argument");
  command->add_option(
      "--adapter", o->adapter,
      "how an adapter (Hugging Face peft's, ours, or a run) fits the model, key by key");
  command->add_option("--arch", o->arch, "architecture, where the checkpoint does not tell");
  TextOrFile(command->add_option("--method", o->method,
                                 "show what this method would change and train; @FILE reads it"));
  command->add_option("--graph", o->graph, "print the graph: text, dot or svg");
  command->add_option("--block", o->block, "of svg and dot: a number (default 0) or all");
  command->add_option("--pass", o->pass,
                      "with --graph text: what this optimising pass ('*': each) changes before "
                      "inference");
  command->add_option("--out", o->out, "file for --graph");
  command->add_flag("--methods", o->methods,
                    "list the methods; with a name a page of that one; with --model counted on it");
  AddForceOption(*command);
  AddCommonOptions(*command, common);
  command->footer(
      "Example:\n  graft inspect deit_tiny_patch16_224.safetensors --method \"lora(r=8)\"\n"
      "  graft inspect init:vit_base_patch16_224 --method lora --graph svg --out block.svg\n"
      "  graft inspect --methods lora\n"
      "  graft inspect --methods --model init:vit_base_patch16_224");
  command->callback([o, &common] { Run(*o, common); });
}

}  // namespace graft
