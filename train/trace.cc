#include "train/trace.h"

#include <algorithm>
#include <filesystem>

#include "ops/ops.h"
#include "peft/method.h"
#include "runtime/io/atomic_file.h"
#include "runtime/io/fresh_directory.h"
#include "runtime/io/safetensors.h"
#include "runtime/session.h"

namespace graft {

// Draws the masks of every random node, by the same operators on ones.
struct Trace::Masks {
  Masks(const FilePlace& place, Graph graph, ParamStore& p, const Counts& batch)
      : file(place), names(Names(graph)), session(graph, p, {.capacity = batch}) {}

  static std::vector<std::string> Names(const Graph& g) {
    std::vector<std::string> names;
    for (const GraphOutput& o : g.outputs) names.push_back(o.name);
    return names;
  }

  NpzWriter file;
  std::vector<std::string> names;
  Session session;
};

namespace {

// Turns dropout(x, ...) into dropout(1, ...), an output named by its stream. Of a mask per sequence
// the first element of each is enough: [S,1]. The graph without random nodes has no outputs. Masks
// of gradients are what a method's transform makes of ones.
Graph MaskGraph(const Graph& model, ParamStore& params, const GradientTransform& transform) {
  Graph g = model;
  g.ClearOutputs();
  g.ClearUpdates();
  const ValueId one = g.AddInput("one", {DType::kF32, {1}});
  for (NodeId id : g.TopoOrder()) {
    const Node n = g.node(id);
    if (n.op != &kDropout) continue;
    const DropoutAttrs& attrs = n.attrs.As<DropoutAttrs>();
    const ValueId offsets = n.in[1];
    ValueId mask = Dropout(g, BroadcastLike(g, one, n.in[0]), offsets, n.in[2], attrs);
    if (attrs.per_sequence) mask = GatherRows(g, SliceCols(g, mask, 0, 1), FirstRows(g, offsets));
    g.SetOutput(attrs.stream, mask);
  }
  for (ValueId v : transform ? model.Trainable() : std::vector<ValueId>()) {
    ValueId rng = g.FindLeaf("rng");
    if (!rng.valid()) rng = g.AddInput("rng", {DType::kI32, {2}});
    const ValueId gradient = BroadcastLike(g, one, v);
    const ValueId masked = transform(g, params, g.value(v).name, gradient, rng);
    const NodeId id = g.value(masked).producer;
    if (id.valid() && g.node(id).op == &kDropout)
      g.SetOutput(g.node(id).attrs.As<DropoutAttrs>().stream, masked);
  }
  g.EraseDead();
  g.EraseUnusedInputs();
  return g;
}

}  // namespace

Trace::Trace(const std::string& dir)
    : dir_(Directory::Open(dir)), batches_(FilePlace(dir_, "batches.npz")) {}
Trace::~Trace() = default;

std::unique_ptr<Trace> Trace::Begin(const RunConfig& config, const Graph& g, ParamStore& params,
                                    const BatchSource& data, bool again) {
  if (!again || !std::filesystem::exists(config.trace)) CreateFreshDirectory(config.trace);
  std::unique_ptr<Trace> trace(new Trace(config.trace));
  std::vector<TensorToWrite> tensors;
  std::vector<std::string> names = g.ParamNames();
  for (const std::string& name : params.names())
    if (name.starts_with(kChildMask)) names.push_back(name);  // of gradients, fixed by the data
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) tensors.push_back(ToWrite(name, params.Get(name)));
  WriteSafetensors(FilePlace(trace->dir_, "init.safetensors"), tensors, {});
  const Graph masks = MaskGraph(g, params, OptimizerOf(config).on_gradient);
  if (!masks.outputs.empty()) {
    trace->masks_ =
        std::make_unique<Masks>(FilePlace(trace->dir_, "masks.npz"), masks, params,
                                Counts{config.batch_size, config.batch_size * data.longest()});
    trace->masks_->session.Input("one").f32()[0] = 1;
  }
  return trace;
}

void Trace::Step(int64_t step, std::span<const size_t> rows, double loss, double learning_rate,
                 const BatchSource& data) {
  const std::string name = fmt::format("step_{:06}", step);
  std::vector<int32_t> order(rows.begin(), rows.end());
  batches_.Add(ToWrite<int32_t>(name, {std::ssize(order)}, order));
  losses_ +=
      fmt::format("{{\"step\":{},\"loss\":{:.9g},\"lr\":{:.17g}}}\n", step, loss, learning_rate);
  if (!masks_) return;
  int32_t* rng = masks_->session.Input("rng").i32();
  rng[0] = static_cast<int32_t>(step), rng[1] = 0;
  Counts batch{std::ssize(rows), 0};
  if (data.longest() > 0) {  // where sequences begin differs from batch to batch
    batch = data.Parts(masks_->session.options().capacity).front();
    data.Fill(masks_->session, 0, batch.sequences, 0);
  }
  masks_->session.Run(batch);
  for (const std::string& stream : masks_->names) {
    const Tensor mask = masks_->session.Output(stream);
    masks_->file.Add(
        ToWrite<float>(name + "/" + stream, {mask.shape.rows(), mask.shape.cols()},
                       std::span<const float>(mask.f32(), static_cast<size_t>(mask.shape.size()))));
  }
}

void Trace::Finish(const ParamStore& params, const std::vector<std::string>& trainable) {
  batches_.Close();
  if (masks_) masks_->file.Close();
  WriteFileAtomically({dir_, "loss.jsonl"}, losses_);
  std::vector<TensorToWrite> tensors;
  std::vector<std::string> names = trainable;
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) tensors.push_back(ToWrite(name, params.Get(name)));
  WriteSafetensors(FilePlace(dir_, "final.safetensors"), tensors, {});
}

}  // namespace graft
