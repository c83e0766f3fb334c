// Declarative rewriting: a pass is a named list of rules (pattern, builder). The engine owns the
// guards: interior values of a match have no user outside it and are no output; a replacement has
// the type of what it replaces; uses that a rule builds are not redirected; the graph is verified.
#pragma once
#include <map>
#include <optional>

#include "runtime/op.h"

namespace graft {

struct Match;
using Predicate = std::function<bool(const Graph&, ValueId)>;

// Patterns are made by Any, Op, OneOf and .If; .As binds a name. The same name twice must bind the
// same value, and names bound below a failed alternative are forgotten.
struct Pat {
  const OpDef* op = nullptr;      // null: any value, or the alternatives below
  std::vector<Pat> in;            // operands of op
  std::vector<Pat> alternatives;  // OneOf
  std::string name;
  Predicate where;
  std::optional<Attrs> attrs;  // exact, if given

  Pat As(std::string n) && {
    name = std::move(n);
    return std::move(*this);
  }
  Pat If(Predicate p) && {
    where = std::move(p);
    return std::move(*this);
  }
};
Pat Any(std::string name);
// Matches result 0 of a node of `op`. The two operands of a commutative operator match in either
// order.
Pat Op(const OpDef& op, std::vector<Pat> in, std::optional<Attrs> attrs = {});
Pat OneOf(std::vector<Pat> alternatives);

struct Match {
  ValueId root;
  std::map<std::string, ValueId> at;
  ValueId operator[](const std::string& name) const;  // checks that the pattern binds it
  const Node& node(const Graph& g, const std::string& name) const;
};

struct Rule {
  std::string name;
  Pat pattern;
  // Returns the value that takes the root's place, or an invalid id to leave the root as it is.
  std::function<ValueId(Graph&, const Match&)> build;
};

struct PassReport {
  std::string name;
  int rewrites = 0;
  size_t nodes_before = 0, nodes_after = 0;
  double milliseconds = 0;
};

// One walk over the nodes present at the start: what a rule builds is not visited again.
PassReport Rewrite(Graph& g, std::string pass, std::span<const Rule> rules);

// Rewrites until nothing matches. Every rewrite must lower the number of nodes, or the number of
// those for which `counts` is true. Otherwise Error names the rule: a rule that loops is a bug of
// the rule. A node is asked about once, when it is new.
using CountsNode = std::function<bool(const Graph&, NodeId)>;
PassReport RewriteToFixpoint(Graph& g, std::string pass, std::span<const Rule> rules,
                             const CountsNode& counts = {});

// Returns the match of a pattern at a value, if any, for passes that only look.
std::optional<Match> MatchPattern(const Graph& g, const Pat& pattern, ValueId root);

// Erases the node that made v, if nobody needs it any more, together with what only it needed, and
// appends them to `erased`. Nothing else can have died by a rewrite of v, so the whole graph need
// not be searched.
void EraseIfUnused(Graph& g, ValueId v, std::vector<NodeId>& erased);

}  // namespace graft
