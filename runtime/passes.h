// PassManager, and the passes that need no operator by name.
#pragma once
#include <set>

#include "runtime/rewrite.h"

namespace graft {

struct Pass {
  std::string name;
  std::function<PassReport(Graph&)> run;
};

// Runs passes in order. Each is timed, verified and reported, and can be disabled or dumped by its
// name. Optimising passes work on a disposable copy of the graph; the canonical graph is model +
// recipe.
class PassManager {
 public:
  struct Options {
    std::set<std::string> disabled;  // --disable-pass; an unknown name is an Error
    std::string dump;                // the pass to print as a before/after diff ("*" = all)
    std::function<void(const std::string&)> print;
  };
  explicit PassManager(Options options) : options_(std::move(options)) {}
  PassManager() = default;
  void Add(Pass pass) { passes_.push_back(std::move(pass)); }
  // Sets Options::dump and print. Throws Error (kUsage) for an unknown name.
  void Dump(const std::string& name, std::function<void(const std::string&)> print);
  // Throws Error "pass 'x': ... (passes before: a, b)".
  std::vector<PassReport> Run(Graph& g) const;
  std::vector<std::string> names() const;

 private:
  void CheckName(const char* flag, const std::string& name) const;

  Options options_;
  std::vector<Pass> passes_;
};

// Nodes of equal operator, attributes, inputs and phase become one, unless they are random.
PassReport ShareEqualNodes(Graph& g);

// gather(f(x), rows) -> f(gather(x, rows)) for every operator that works row by row
// (OpDef::row_inputs), so that only the rows that somebody reads are computed. `gather` is the
// operator that takes (matrix, row indices); `attention` operators tell through `sink` how to take
// fewer query rows.
using SinkRule = std::function<ValueId(Graph&, NodeId consumer_of_rows, ValueId rows)>;
PassReport SinkGather(Graph& g, const OpDef& gather, const SinkRule& special);

}  // namespace graft
