#include "adapters/merged_run.h"

#include <filesystem>

#include "adapters/adapter_file.h"
#include "adapters/fuse.h"
#include "adapters/method_graph.h"
#include "adapters/open_model.h"
#include "peft/merge.h"
#include "runtime/io/safetensors.h"
#include "runtime/io/sha256.h"

namespace graft {

namespace {

// The file with the weights that a run stands for.
std::string WeightsOf(const std::string& run) {
  if (!IsRunDirectory(run)) Fail("{}: expected a run of graft train", run);
  const std::string file = fmt::format("{}/{}.safetensors", run, UsualCheckpoint(run));
  if (!std::filesystem::exists(file))
    Fail("{}: no weights yet; hint: graft train --resume {}", run, ShellWord(run));
  return file;
}

}  // namespace

std::string HashOfRunWeights(const std::string& run) { return Sha256OfFile(WeightsOf(run)); }

namespace {

// Counts the runs that a run began with, one inside the other: a damaged file could say that it
// began with itself.
struct Nested {
  static constexpr int kMost = 16;
  static inline thread_local int depth = 0;
  explicit Nested(const std::string& run) {
    if (++depth > kMost) {
      --depth;
      Fail("{}: runs that begin with runs, more than {} deep", run, kMost);
    }
  }
  ~Nested() { --depth; }
};

// Those that have the hash, where one is given.
std::string KnownWeights(const std::string& run, const std::string& sha256) {
  const std::string file = WeightsOf(run);
  if (sha256.empty() || Sha256OfFile(file) == sha256) return file;
  if (const std::string last = run + "/last.safetensors";
      last != file && std::filesystem::exists(last) && Sha256OfFile(last) == sha256)
    return last;
  Fail("{}: not the weights that training began with; hint: put the original run back", file);
}

}  // namespace

ParamStore RunWeights(const std::string& run, const std::string& sha256) {
  return SafetensorsFile::Open(KnownWeights(run, sha256)).LoadAll();
}

ParamStore MergedRun(const ModelConfig& config, const std::string& run, const std::string& sha256,
                     const ParamStore& base) {
  const Nested nested(run);
  const std::string file = KnownWeights(run, sha256);
  const AdapterFacts facts = ReadRunFacts(run);
  const Method method = ParseMethod(facts.method);
  ModelConfig of_run = config;
  Classes(of_run) = std::ssize(facts.labels), TaskOf(of_run) = facts.task;
  ParamStore params = base;
  for (const std::string& name : params.names())
    if (name.starts_with("head.")) params.Erase(name);
  const Graph plain = BuildModel(of_run);
  for (ValueId v : plain.Leaves(Role::kParam))
    if (const std::string& name = plain.value(v).name; !params.Has(name))
      params.Allocate(name, At(plain.shape(v), {}));
  const uint64_t seed = static_cast<uint64_t>(facts.seed);
  MethodGraph(of_run, {}, method, params, seed);
  LoadAdapterTensors(file, params);
  Graph g = InferenceGraph(of_run, method, params, seed);
  const MergeResult merged = MergeIntoPlain(of_run, g, params);
  if (!merged.left.empty())
    Fail("{}: '{}' of method '{}' cannot be folded into the base", run, merged.left[0],
         facts.method);
  return params;
}

}  // namespace graft
