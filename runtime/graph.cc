#include "runtime/graph.h"

#include <algorithm>
#include <bit>
#include <functional>

#include "runtime/op.h"

namespace graft {

ValueId Graph::AddLeaf(std::string name, TensorType type, Role role) {
  if (name.empty()) Fail("a leaf needs a name");
  CheckDims(type.shape);
  if (FindLeaf(name).valid()) Fail("'{}' exists already in this graph", name);
  if (type.dtype == DType::kBf16) Fail("'{}': bf16 lies between operators only", name);
  const ValueId v{static_cast<uint32_t>(values_.size())};
  leaves_[name] = v;
  values_.push_back({std::move(type), role, false, {}, std::move(name)});
  users_.emplace_back();
  dead_leaf_.push_back(false);
  return v;
}

ValueId Graph::AddInput(std::string name, TensorType type) {
  return AddLeaf(std::move(name), std::move(type), Role::kInput);
}

ValueId Graph::AddParam(std::string name, Shape shape, bool trainable, DType dtype) {
  if ((dtype != DType::kF32 && dtype != DType::kU8) || (trainable && dtype != DType::kF32))
    Fail("parameter '{}': expected {}, found {}", name,
         trainable ? "f32, as it is trainable" : "f32 or u8", ToString(dtype));
  for (const Dim& dim : shape)
    if (!dim.fixed()) Fail("parameter '{}': shape {} depends on the batch", name, ToString(shape));
  const ValueId v = AddLeaf(std::move(name), {dtype, std::move(shape)}, Role::kParam);
  values_[v.i].trainable = trainable;
  return v;
}

ValueId Graph::AddState(std::string name, Shape shape) {
  return AddLeaf(std::move(name), {DType::kF32, std::move(shape)}, Role::kState);
}

ValueList Graph::Add(const OpDef& op, ValueList in, Attrs attrs, Where at) {
  if (attrs.empty() && op.default_attrs) attrs = op.default_attrs();
  thread_local std::vector<TensorType> scratch;
  if (scratch.size() < in.size()) scratch.resize(in.size());
  const std::span types = std::span(scratch).first(in.size());
  for (size_t i = 0; i < in.size(); ++i) {
    const ValueId v = in[i];
    GRAFT_CHECK(v.valid() && IsAlive(v), "input of {} built at {}:{}", op.name, at.file, at.line);
    types[i] = type(v);
  }
  std::vector<TensorType> results;
  try {
    results = op.infer(types, attrs);
    for (const TensorType& result : results) CheckDims(result.shape);
  } catch (const Error& e) {
    std::string found;
    for (const TensorType& t : types) found += (found.empty() ? "" : ", ") + ToString(t);
    Fail("[{}] {}: {} (inputs {}; built at {}:{})", op.name, scope, e.what(), found, at.file,
         at.line);
  }
  const NodeId id{static_cast<uint32_t>(nodes_.size())};
  Node node{&op, std::move(attrs), std::move(in), {}, scope, phase, at};
  for (ValueId v : node.in) users_[v.i].push_back(id);
  for (TensorType& t : results) {
    node.out.push_back({static_cast<uint32_t>(values_.size())});
    values_.push_back({std::move(t), Role::kIntermediate, false, id, ""});
    users_.emplace_back();
    dead_leaf_.push_back(false);
  }
  nodes_.push_back(std::move(node));
  ++live_nodes_;
  return nodes_.back().out;
}

bool Graph::IsAlive(ValueId v) const {
  const Value& value = values_[v.i];
  return value.role == Role::kIntermediate ? value.producer.valid() : !dead_leaf_[v.i];
}

bool Graph::HasAncestor(ValueId v, ValueId ancestor) const {
  std::vector<ValueId> stack{v};
  std::vector<bool> seen(values_.size());
  while (!stack.empty()) {
    const ValueId at = stack.back();
    stack.pop_back();
    if (at == ancestor) return true;
    if (seen[at.i] || !values_[at.i].producer.valid()) continue;
    seen[at.i] = true;
    for (ValueId in : node(values_[at.i].producer).in) stack.push_back(in);
  }
  return false;
}

void Graph::SetTrainable(ValueId param, bool trainable) {
  GRAFT_CHECK(value(param).role == Role::kParam, "'{}' is no parameter", value(param).name);
  if (trainable && type(param).dtype != DType::kF32)
    Fail("parameter '{}' cannot train: expected f32, found {}", value(param).name,
         ToString(type(param)));
  values_[param.i].trainable = trainable;
}

void Graph::SetName(ValueId v, std::string name) {
  GRAFT_CHECK(value(v).role == Role::kIntermediate, "leaf '{}'", value(v).name);
  values_[v.i].name = std::move(name);
}

void Graph::SetInput(NodeId n, size_t index, ValueId to) {
  ValueId& slot = nodes_[n.i].in[index];
  UserList& old_users = users_[slot.i];
  old_users.erase(std::find(old_users.begin(), old_users.end(), n));
  slot = to;
  users_[to.i].push_back(n);
}

void Graph::ReplaceUsesIn(ValueId from, ValueId to, std::span<const NodeId> users) {
  for (NodeId n : users)
    for (size_t i = 0; i < node(n).in.size(); ++i)
      if (node(n).in[i] == from) SetInput(n, i, to);
}

void Graph::ReplaceUses(ValueId from, ValueId to) {
  const UserList users = users_[from.i];
  ReplaceUsesIn(from, to, users);
  ReplaceResult(from, to);
}

void Graph::ReplaceResult(ValueId from, ValueId to) {
  if (from == to) return;
  for (auto it = held_.find(from); it != held_.end(); it = held_.find(from)) {
    const Place place = it->second;
    (place.update ? updates.items_[place.index].value : outputs.items_[place.index].value) = to;
    held_.erase(it);
    held_.emplace(to, place);
  }
}

void Graph::DropNode(NodeId n) {
  Node& dead = nodes_[n.i];
  for (ValueId v : dead.in) {
    UserList& users = users_[v.i];
    users.erase(std::find(users.begin(), users.end(), n));
  }
  dead = Node{};
  --live_nodes_;
}

void Graph::EraseNode(NodeId n) {
  for (ValueId v : nodes_[n.i].out) {
    GRAFT_CHECK(users_[v.i].empty() && !IsOutput(v), "a result of node {} is in use", n.i);
    values_[v.i].producer = {};
  }
  DropNode(n);
}

void Graph::EraseLeaf(ValueId v) {
  dead_leaf_[v.i] = true;
  const auto it = leaves_.find(value(v).name);
  if (it != leaves_.end() && it->second == v) leaves_.erase(it);
}

size_t Graph::EraseDead() {
  const auto unused = [&](const Node& n) {
    return std::ranges::all_of(n.out,
                               [&](ValueId v) { return users_[v.i].empty() && !IsOutput(v); });
  };
  const auto is_weight = [&](size_t i) {
    return values_[i].role == Role::kParam || values_[i].role == Role::kState;
  };
  // Something that is dead is read by nobody; mostly there is nothing.
  std::vector<NodeId> last;
  for (uint32_t n = 0; n < nodes_.size(); ++n)
    if (nodes_[n].op && unused(nodes_[n])) last.push_back({n});
  bool unread = false;
  for (size_t i = 0; i < values_.size() && !unread; ++i)
    unread = is_weight(i) && !dead_leaf_[i] && users_[i].empty();
  if (last.empty() && !unread) return 0;

  std::vector<bool> live(values_.size());
  std::vector<ValueId> stack;
  for (const GraphOutput& o : outputs) stack.push_back(o.value);
  for (const Update& u : updates) stack.push_back(u.value), stack.push_back(u.target);
  while (!stack.empty()) {
    const ValueId v = stack.back();
    stack.pop_back();
    if (live[v.i]) continue;
    live[v.i] = true;
    if (!values_[v.i].producer.valid()) continue;
    const Node& n = node(values_[v.i].producer);
    for (ValueId in : n.in) stack.push_back(in);
    for (ValueId out : n.out) live[out.i] = true;
  }
  size_t erased = 0;
  while (!last.empty()) {
    const NodeId id = last.back();
    last.pop_back();
    if (!node(id).op || live[node(id).out[0].i]) continue;
    const ValueList in = node(id).in;
    EraseNode(id), ++erased;
    for (ValueId v : in)
      if (const NodeId maker = values_[v.i].producer; maker.valid() && unused(node(maker)))
        last.push_back(maker);
  }
  for (uint32_t i = 0; i < values_.size(); ++i)
    if (is_weight(i) && !live[i]) EraseLeaf({i});
  return erased;
}

void Graph::EraseUnusedInputs() {
  for (ValueId v : Leaves(Role::kInput))
    if (users_[v.i].empty() && !IsOutput(v)) EraseLeaf(v);
}

void Graph::MakeParam(ValueId v) {
  const NodeId producer = value(v).producer;
  GRAFT_CHECK(producer.valid() && !value(v).name.empty(), "only a named intermediate");
  values_[v.i].producer = {};
  values_[v.i].role = Role::kParam;
  leaves_[value(v).name] = v;           // of two, the older one is about to go
  if (node(producer).out.size() > 1) {  // it stays, with a new result in v's place
    const ValueId unread{static_cast<uint32_t>(values_.size())};
    values_.push_back({type(v), Role::kIntermediate, false, producer, ""});
    users_.emplace_back();
    dead_leaf_.push_back(false);
    ValueList& out = nodes_[producer.i].out;
    *std::find(out.begin(), out.end(), v) = unread;
    return;
  }
  DropNode(producer);
}

namespace {

// A set of numbers below n that gives the smallest one first: a bit for each, and a bit for each
// word of these. What becomes ready lies near what was taken last, so this is faster than a heap.
class SmallestFirst {
 public:
  explicit SmallestFirst(size_t n) : bits_(n / 64 + 1), words_(bits_.size() / 64 + 1) {}
  bool empty() const { return size_ == 0; }
  void Insert(size_t i) {
    bits_[i / 64] |= uint64_t{1} << i % 64;
    words_[i / 4096] |= uint64_t{1} << i / 64 % 64;
    first_ = std::min(first_, i / 4096);
    ++size_;
  }
  size_t Take() {
    while (words_[first_] == 0) ++first_;
    const size_t word = first_ * 64 + static_cast<size_t>(std::countr_zero(words_[first_]));
    const size_t i = word * 64 + static_cast<size_t>(std::countr_zero(bits_[word]));
    bits_[word] &= bits_[word] - 1;
    if (bits_[word] == 0) words_[first_] &= words_[first_] - 1;
    --size_;
    return i;
  }

 private:
  std::vector<uint64_t> bits_, words_;
  size_t first_ = 0, size_ = 0;  // no word before the first has a bit
};

}  // namespace

std::vector<NodeId> Graph::TopoOrder() const {
  const size_t n = nodes_.size();
  std::vector<uint32_t> waiting(n);
  SmallestFirst ready(2 * n);  // by phase, then by number
  const auto insert = [&](size_t i) {
    ready.Insert(nodes_[i].phase == Phase::kUpdate ? n + i : i);
  };
  // Often every node has a higher id than those that it reads: then there is nothing to sort.
  bool sorted = true, any_update = false;
  for (size_t i = 0; i < n; ++i) {
    if (!nodes_[i].op) continue;
    const bool update = nodes_[i].phase == Phase::kUpdate;
    any_update |= update;
    for (ValueId v : nodes_[i].in) {
      const NodeId maker = values_[v.i].producer;
      if (!maker.valid()) continue;
      ++waiting[i];
      sorted &= maker.i < i && (update || !any_update || nodes_[maker.i].phase == Phase::kMain);
    }
  }
  std::vector<NodeId> order;
  order.reserve(live_nodes_);
  if (sorted) {
    for (const Phase of : {Phase::kMain, Phase::kUpdate})
      for (uint32_t i = 0; i < n; ++i)
        if (nodes_[i].op && nodes_[i].phase == of) order.push_back({i});
    return order;
  }
  for (size_t i = 0; i < n; ++i)
    if (nodes_[i].op && waiting[i] == 0) insert(i);
  while (!ready.empty()) {
    const size_t taken = ready.Take(), i = taken < n ? taken : taken - n;
    order.push_back({static_cast<uint32_t>(i)});
    for (ValueId v : nodes_[i].out)
      for (NodeId user : users_[v.i])
        if (--waiting[user.i] == 0) insert(user.i);
  }
  const auto live = std::ranges::count_if(nodes_, [](const Node& at) { return at.op != nullptr; });
  if (std::ssize(order) != live)
    Fail("the graph has a cycle: {} of {} nodes ordered", order.size(), live);
  return order;
}

ValueId Graph::FindLeaf(std::string_view name) const {
  const auto it = leaves_.find(name);
  return it == leaves_.end() ? ValueId{} : it->second;
}

std::vector<ValueId> Graph::Leaves(Role role) const {
  std::vector<ValueId> leaves;
  for (uint32_t i = 0; i < values_.size(); ++i)
    if (values_[i].role == role && !dead_leaf_[i] &&
        (role != Role::kIntermediate || values_[i].producer.valid()))
      leaves.push_back({i});
  return leaves;
}

std::vector<ValueId> Graph::Trainable() const {
  std::vector<ValueId> params = Leaves(Role::kParam);
  std::erase_if(params, [&](ValueId v) { return !value(v).trainable; });
  return params;
}

std::vector<std::string> Graph::ParamNames() const {
  std::vector<std::string> names;
  for (ValueId v : Leaves(Role::kParam)) names.push_back(value(v).name);
  return names;
}

ValueId Graph::output(std::string_view name) const {
  std::vector<std::string> names;
  for (const GraphOutput& o : outputs) {
    if (o.name == name) return o.value;
    names.push_back(o.name);
  }
  Fail("the graph has no output '{}'{}", name, DidYouMean(name, names));
}

void Graph::SetOutput(std::string_view name, ValueId v) {
  for (GraphOutput& o : outputs.items_)
    if (o.name == name) {
      o.value = v;
      return HoldAgain();
    }
  AddOutput(std::string(name), v);
}

void Graph::AddOutput(std::string name, ValueId v) {
  held_.emplace(v, Place{false, outputs.size()});
  outputs.items_.push_back({std::move(name), v});
}

void Graph::KeepOutputs(const std::function<bool(const GraphOutput&)>& which) {
  std::erase_if(outputs.items_, [&](const GraphOutput& o) { return !which(o); });
  HoldAgain();
}

void Graph::AddUpdate(ValueId target, ValueId value) {
  held_.emplace(value, Place{true, updates.size()});
  updates.items_.push_back({target, value});
}

void Graph::ClearUpdates() {
  updates.items_.clear();
  HoldAgain();
}

void Graph::HoldAgain() {
  held_.clear();
  for (size_t i = 0; i < outputs.size(); ++i) held_.emplace(outputs[i].value, Place{false, i});
  for (size_t i = 0; i < updates.size(); ++i) held_.emplace(updates[i].value, Place{true, i});
}

bool GlobMatch(std::string_view glob, std::string_view text) {
  size_t g = 0, t = 0, star = std::string_view::npos, mark = 0;
  while (t < text.size()) {
    if (g < glob.size() && glob[g] == '*') {
      star = g++;
      mark = t;
    } else if (g < glob.size() && glob[g] == text[t]) {
      ++g, ++t;
    } else if (star != std::string_view::npos) {
      g = star + 1;
      t = ++mark;
    } else {
      return false;
    }
  }
  while (g < glob.size() && glob[g] == '*') ++g;
  return g == glob.size();
}

}  // namespace graft
