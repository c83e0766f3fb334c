// Candidates that agree in their first layers compute the same values up to there. What one of them
// computes and a later one wants too is kept for all examples, and the later one starts from it:
// the same bits with less work.
//
// Where two agree is not guessed from their methods: each value has a key that decides it, made of
// the operators and the contents of the parameters that it comes from.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "autograd/frozen_cut.h"
#include "runtime/params.h"
#include "train/evaluator.h"

namespace graft {

// That keep all that a generation of DeiT-Ti shares on some hundred images.
inline constexpr size_t kSharedPrefixBytes = size_t{512} << 20;

struct Prefix {
  CutPoint cut;
  std::string key;  // equal for equal values of equal examples
};
// The prefixes of an optimised inference graph that are worth keeping, the shortest first; none of
// a model of texts, whose rows differ in length.
std::vector<Prefix> PrefixesOf(const Graph& g, const ParamStore& params);

class SharedPrefixes {
 public:
  // `bytes`: the most that is kept at a time. The processes of a group, if there is one, divide the
  // examples of every candidate among them. Data and group must outlive this.
  SharedPrefixes(BatchSource& data, SessionOptions options, size_t bytes = kSharedPrefixBytes,
                 ProcessGroup* group = nullptr)
      : data_(data), options_(std::move(options)), bound_(bytes), group_(group) {}

  // What will be measured from now on, in this order. What was expected before is forgotten.
  void Expect(std::vector<std::vector<Prefix>> candidates);
  // Measures the next of them over all examples. REQUIRES: graph and parameters are those that its
  // prefixes were found in.
  Metrics Measure(const Graph& g, ParamStore& params);

  size_t held_bytes() const { return held_bytes_; }
  // In forward passes of one candidate over all examples: what was measured, and what of it was
  // taken from others.
  double passes() const { return passes_; }
  double shared_passes() const { return shared_passes_; }

 private:
  struct Kept {
    std::unique_ptr<BatchSource> features;
    size_t bytes;
  };
  const std::vector<Prefix>& Own() const { return expected_[next_]; }
  size_t Held() const;
  std::vector<size_t> Wanted(size_t from) const;
  bool Keep(const Graph& g, ParamStore& params, size_t from, size_t to);
  void DropUnwanted();

  BatchSource& data_;
  const SessionOptions options_;
  const size_t bound_;
  ProcessGroup* const group_;
  std::vector<std::vector<Prefix>> expected_;
  size_t next_ = 0;  // of them
  std::map<std::string, Kept> kept_;
  size_t held_bytes_ = 0;
  double passes_ = 0, shared_passes_ = 0;
};

}  // namespace graft
