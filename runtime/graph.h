// The static graph: values and nodes addressed by stable ids, never by pointer.
//
// A Graph is plain data with value semantics (copy it to try something). Passes change it through
// the few methods below; Verify (verify.h) states every invariant. Weights are not in the graph:
// parameters are names whose values a ParamStore holds. Not thread-safe.
#pragma once
#include <functional>
#include <map>

#include "runtime/attrs.h"
#include "runtime/short_list.h"
#include "runtime/tensor_type.h"

namespace graft {

struct ValueId {
  uint32_t i = UINT32_MAX;
  bool valid() const { return i != UINT32_MAX; }
  auto operator<=>(const ValueId&) const = default;
};
struct NodeId {
  uint32_t i = UINT32_MAX;
  bool valid() const { return i != UINT32_MAX; }
  auto operator<=>(const NodeId&) const = default;
};

// kInput is given by the caller at every run. kParam comes from a ParamStore. kState is a buffer of
// the session that survives runs (gradient accumulators). kIntermediate is made by a node.
enum class Role : uint8_t { kInput, kParam, kState, kIntermediate };

// kMain nodes run at every Run; kUpdate nodes once per step, after all micro-batches.
enum class Phase : uint8_t { kMain, kUpdate };

struct Value {
  TensorType type;
  Role role = Role::kIntermediate;
  bool trainable = false;  // only parameters; freezing is this bit and nothing else
  NodeId producer;         // valid exactly for intermediates
  std::string name;        // leaves always have one; intermediates may (an edge for methods)
};

struct OpDef;

using ValueList = ShortList<ValueId, 4>;
using UserList = ShortList<NodeId, 2>;

struct Node {
  const OpDef* op = nullptr;  // null once erased
  Attrs attrs;
  ValueList in, out;
  std::string scope;  // "blocks.3.attn.q"
  Phase phase = Phase::kMain;
  Where built_at;
};

// After the node that makes `value` has run, the buffer of `target` (a parameter or a state) holds
// it.
struct Update {
  ValueId target, value;
};

struct GraphOutput {
  std::string name;
  ValueId value;
};

// A list that everybody may read and that only the graph changes.
template <class T>
class ReadOnlyList {
 public:
  auto begin() const { return items_.begin(); }
  auto end() const { return items_.end(); }
  size_t size() const { return items_.size(); }
  bool empty() const { return items_.empty(); }
  const T& operator[](size_t i) const { return items_[i]; }

 private:
  friend class Graph;
  friend class GraphSurgery;
  std::vector<T> items_;
};

class Graph {
 public:
  // Add a leaf. Its name must be new: a second leaf with the same name is an error.
  ValueId AddInput(std::string name, TensorType type);
  ValueId AddParam(std::string name, Shape shape, bool trainable = false,
                   DType dtype = DType::kF32);  // or u8, which is not trainable
  ValueId AddState(std::string name, Shape shape);
  // Adds a node and returns its results. Throws Error "[op] scope: ..." if the types do not fit.
  ValueList Add(const OpDef& op, ValueList in, Attrs attrs = {}, Where at = Where::Here());
  // The same for operators of which only the first result is of interest.
  ValueId Add1(const OpDef& op, ValueList in, Attrs attrs = {}, Where at = Where::Here()) {
    return Add(op, std::move(in), std::move(attrs), at)[0];
  }

  const Value& value(ValueId v) const { return values_[v.i]; }
  const Node& node(NodeId n) const { return nodes_[n.i]; }
  const TensorType& type(ValueId v) const { return values_[v.i].type; }
  const Shape& shape(ValueId v) const { return values_[v.i].type.shape; }
  // The nodes that read v, one entry per use (a node that reads it twice occurs twice).
  const UserList& users(ValueId v) const { return users_[v.i]; }
  bool IsOutput(ValueId v) const { return held_.contains(v); }  // or the value of an update
  bool IsAlive(ValueId v) const;  // leaf, or made by a node that is not erased
  bool HasAncestor(ValueId v, ValueId ancestor) const;

  void SetTrainable(ValueId param, bool trainable);
  void SetName(ValueId v, std::string name);  // of an intermediate: leaves keep theirs
  // Redirects the uses of `from` to `to`: all of them, or those in the listed nodes only. Outputs
  // and updates follow only when all uses do.
  void ReplaceUses(ValueId from, ValueId to);
  void ReplaceResult(ValueId from, ValueId to);  // of outputs and updates
  void ReplaceUsesIn(ValueId from, ValueId to, std::span<const NodeId> users);
  void SetInput(NodeId n, size_t index, ValueId to);
  void EraseNode(NodeId n);  // its results must be unused
  size_t EraseDead();        // nodes and leaves (not inputs) that reach no output and no update
  void EraseUnusedInputs();  // inputs that no node reads and that are no output
  // Turns an intermediate into a parameter with its own name. The node that made it goes, unless it
  // has other results: then EraseDead takes it.
  void MakeParam(ValueId v);
  // Gives nodes ids that follow `order`, so that they run in that order (ids decide where TopoOrder
  // leaves a choice). `order` holds every live node once, after those it reads, and main nodes
  // before update nodes. Value ids change, too: leaves come first.
  void Renumber(std::span<const NodeId> order);

  std::vector<NodeId> TopoOrder() const;          // by phase, then dependencies, ties by id
  ValueId FindLeaf(std::string_view name) const;  // invalid if there is none
  std::vector<ValueId> Leaves(Role role) const;   // alive ones, in order of creation
  std::vector<ValueId> Trainable() const;
  std::vector<std::string> ParamNames() const;
  ValueId output(std::string_view name) const;       // throws Error with the nearest name
  void SetOutput(std::string_view name, ValueId v);  // a new one, or another value for it
  void AddOutput(std::string name, ValueId v);       // a new one; Verify sees if it is not
  void KeepOutputs(const std::function<bool(const GraphOutput&)>& which);
  void ClearOutputs() {
    KeepOutputs([](const GraphOutput&) { return false; });
  }
  void AddUpdate(ValueId target, ValueId value);
  void ClearUpdates();
  size_t live_nodes() const { return live_nodes_; }
  size_t num_values() const { return values_.size(); }
  size_t num_nodes() const { return nodes_.size(); }

  ReadOnlyList<GraphOutput> outputs;
  ReadOnlyList<Update> updates;
  std::string scope;           // given to the nodes that are built next
  Phase phase = Phase::kMain;  // likewise

 private:
  friend void Verify(const Graph&);
  friend class GraphSurgery;  // tests of Verify break graphs through this
  // Where a value stands in the lists of outputs and updates.
  struct Place {
    bool update;
    size_t index;
  };
  ValueId AddLeaf(std::string name, TensorType type, Role role);
  void EraseLeaf(ValueId v);
  void DropNode(NodeId n);  // takes it out of the lists of users
  void HoldAgain();         // finds held_ from the lists
  std::vector<Value> values_;
  std::vector<Node> nodes_;
  size_t live_nodes_ = 0;
  std::vector<UserList> users_;  // by value
  std::vector<bool> dead_leaf_;  // by value
  std::multimap<ValueId, Place> held_;
  std::map<std::string, ValueId, std::less<>> leaves_;  // alive ones
};

// Sets a scope for the nodes built during its lifetime: Scope s(g, "attn") in "blocks.3" gives
// "blocks.3.attn".
class Scope {
 public:
  Scope(Graph& g, std::string_view name) : g_(g), before_(g.scope) {
    g.scope = before_.empty() ? std::string(name) : before_ + "." + std::string(name);
  }
  ~Scope() { g_.scope = before_; }
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 private:
  Graph& g_;
  std::string before_;
};

// Matches '*' against any run of characters (dots too).
bool GlobMatch(std::string_view glob, std::string_view text);

}  // namespace graft
