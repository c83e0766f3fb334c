#include "tools/reports/rewrite_report.h"

#include <fmt/format.h>

#include "adapters/base_model.h"
#include "peft/sites.h"
#include "tools/lib/graph_diff.h"
#include "tools/lib/graph_svg.h"
#include "tools/lib/method_facts.h"
#include "tools/lib/report.h"

namespace graft {
namespace {

constexpr size_t kMostText = 40'000;

// The first block that has nodes of the method or, if none has, weights that train; -1 for none.
int64_t ChangedBlock(const Graph& g, const std::set<NodeId>& added) {
  for (const NodeId id : g.TopoOrder())
    if (added.contains(id) && BlockOf(g.node(id).scope) >= 0) return BlockOf(g.node(id).scope);
  for (const ValueId v : g.Trainable())
    if (BlockOf(g.value(v).name) >= 0) return BlockOf(g.value(v).name);
  return -1;
}

}  // namespace

void AddRewrite(const RunConfig& config, Page* page) {
  const LoadedModel model = OpenAdapted(config);
  const Graph before = BuildModel(model.config);
  ParamStore scratch = model.params;
  const Graph after = MethodGraph(model.config, {}, ParseMethod(config.method), scratch,
                                  static_cast<uint64_t>(config.seed), nullptr, true);
  const std::set<NodeId> added = AddedNodes(before, after);
  page->Heading("What the method changes", 3);
  const int64_t trains = TrainableCount(after), all = ParameterCount(after);
  page->Text(fmt::format("{} of {} numbers train ({:.2f} %).", Grouped(trains), Grouped(all),
                         100 * static_cast<double>(trains) / static_cast<double>(all)));
  HtmlTable table{{"what trains", "tensors", "shape", "numbers"}, {false, true, false, true}};
  for (const TrainableGroup& g : TrainableGroups(after))
    table.rows.push_back({{g.name}, CountCell(g.tensors), {g.shape}, CountCell(g.numbers)});
  page->Table(table);
  if (const int64_t block = ChangedBlock(after, added); block >= 0) {
    page->Text(fmt::format("Block {}: what trains in orange{}.", block,
                           added.empty() ? "" : ", what the method adds with a green border"),
               "soft");
    page->Picture(ToSvg(after, fmt::format("blocks.{}", block), added),
                  fmt::format("graph of block {}", block));
  } else {
    page->Text("No block of the model is changed.", "soft");
  }
  std::string diff = FoldedDiff(before, after);
  if (diff.empty()) return;
  if (diff.size() > kMostText) {
    diff.resize(diff.rfind('\n', kMostText) + 1);
    diff += "... and more: graft inspect RUN --method METHOD --graph text\n";
  }
  page->BeginDetails("The rewrite as text (- before, + after)");
  page->Quote(diff);
  page->EndDetails();
}

}  // namespace graft
