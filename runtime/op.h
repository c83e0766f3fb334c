// There is one record per operator. Session, interpreter, gradient transform, tests, benchmarks,
// profiler and documents all read this record; nobody keeps a second list. runtime/ knows the
// struct and no operator; ops/ fills it in (see docs/add_an_operator.md).
#pragma once
#include <cstddef>
#include <functional>
#include <map>
#include <memory>

#include "runtime/graph.h"
#include "runtime/threads.h"

namespace graft {

struct ReferenceArgs {  // i32 and u8 inputs come as doubles too
  std::span<const std::vector<double>> in;
  std::span<std::vector<double>> out;  // of the right size, filled with zeros
  std::span<const Extents> in_shape, out_shape;
  const Attrs& attrs;
};

struct KernelArgs {
  std::span<const Tensor> in, out;
  const Attrs& attrs;
  const void* state = nullptr;   // what prepare made
  std::byte* scratch = nullptr;  // as many bytes as prepare asked for, 64-byte aligned
  ThreadScratch own = {};        // at least as many bytes for a thread as prepare asked for
};
using Kernel = void (*)(const KernelArgs&) noexcept;

// Constants in a kernel's own layout, by address and layout. Nodes of a session that read the same
// weight share one copy, as those of several adapters on one base do.
using PackedConstants =
    std::map<std::pair<const float*, std::string>, std::shared_ptr<const float>>;

struct PrepareArgs {
  std::span<const Extents> in, out;  // at the session's capacity
  // By input: its data if it is f32 and never changes, else null.
  std::span<const float* const> constant;
  const Attrs& attrs;
  PackedConstants& packed;
  std::span<const DType> in_type = {};
};
struct Prepared {
  Kernel run = nullptr;
  std::shared_ptr<const void> state;
  size_t scratch = 0;         // bytes: a function of the arguments alone, not of the threads
  size_t thread_scratch = 0;  // bytes of each thread that works in the kernel
  size_t state_bytes = 0;     // what the state keeps (packed weights) and no state before it kept
  std::string impl;           // for plan.json and `graft profile`
  // What is left to do before the first run, such as packing weights: the session does it for all
  // nodes side by side. Reads constants, writes what `state` refers to, and must not throw.
  std::function<void()> finish = nullptr;
};

struct GradientArgs {
  Graph& g;
  std::span<const ValueId> in, out;
  std::span<const ValueId> cotangent;  // by result; invalid if no gradient reached it
  const std::vector<bool>& need;       // by input; false for frozen ones
  const Attrs& attrs;
};

struct Cost {
  double flops = 0, bytes = 0;
};
struct CostArgs {
  std::span<const Extents> in, out;
  const Attrs& attrs;
  std::span<const DType> in_type, out_type;
  uint32_t frozen = 0;  // bit i: input i is a parameter that does not train

  // What is moved if every number of every tensor is read or written once.
  double Bytes() const {
    double bytes = 0;
    for (size_t i = 0; i < in.size(); ++i) bytes += BytesOf(in[i], in_type[i]);
    for (size_t i = 0; i < out.size(); ++i) bytes += BytesOf(out[i], out_type[i]);
    return bytes;
  }
  static double BytesOf(const Extents& e, DType dtype) {
    return static_cast<double>(ByteSize(dtype)) * static_cast<double>(e.size());
  }
};

// An input of a sample: shape and range of random values, or given integers.
struct SampleInput {
  Extents shape;
  double lo = -2, hi = 2;
  std::vector<int32_t> ints = {};  // if there are any, the input is i32 with these values
  bool u8 = false;                 // any bytes, without a range
  bool bf16 = false;               // of the range, as bf16
  bool infinite = true;            // whether it may be; NaN may always be
};
struct Sample {
  std::string label;  // "odd", "one", "empty", "prime", "bench": unique within the record
  std::vector<SampleInput> in;
  Attrs attrs = {};
};
struct ErrorSample {
  std::vector<TensorType> in;
  Attrs attrs;
  std::string message;  // a part of the expected text
};

struct OpDef {
  std::string_view name;
  Attrs (*default_attrs)() = nullptr;  // null if there are no attributes
  // Returns the types of the results. Throws Error for types of inputs that do not fit.
  std::vector<TensorType> (*infer)(std::span<const TensorType>, const Attrs&) = nullptr;
  void (*reference)(const ReferenceArgs&) = nullptr;  // scalar code in double, obviously right
  Kernel kernel = nullptr;  // in f32; kernels with state have `prepare` instead
  Prepared (*prepare)(const PrepareArgs&) = nullptr;
  // Returns the cotangents of the inputs as new nodes of the graph, invalid where not needed. It is
  // null for operators that are not differentiable.
  std::vector<ValueId> (*gradient)(const GradientArgs&) = nullptr;
  Cost (*cost)(const CostArgs&) = nullptr;
  std::vector<Sample> (*samples)() = nullptr;
  std::vector<ErrorSample> (*error_samples)() = nullptr;

  // How far a kernel may be off: |error| <= rtol * (|reference| + scale), see docs/numerics.md.
  // With `cancels` the scale is that of the terms, taken from reference(|inputs|).
  double rtol = 2e-6;
  bool cancels = false;
  int in_place = -1;  // result 0 may take the memory of this input (same size)
  // Bit i: row r of result 0 reads of input i row r only; all other inputs are read whole and do
  // not depend on the row. Lets a gather of rows move in front of the node (passes.h, SinkGather).
  uint32_t row_inputs = 0;
  bool commutative = false;
  // It reads a random stream, so it is not merged with an equal node and is removed for inference.
  bool random = false;
};

}  // namespace graft
