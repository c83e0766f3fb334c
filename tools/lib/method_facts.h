// What a method does to one model, found by applying it, as no method is known by name here.
#pragma once
#include <optional>

#include "models/files/checkpoint.h"
#include "peft/method.h"

namespace graft {

// Trainable parameters by role; those that are equal in all blocks count as one
// ("blocks.*.attn.q.lora_a").
struct TrainableGroup {
  std::string name;
  std::string shape;
  int64_t tensors = 0, numbers = 0;
};
std::vector<TrainableGroup> TrainableGroups(const Graph& g);

int64_t ParameterCount(const Graph& g);  // trainable or not

struct MethodFacts {
  std::string model;                 // as the user names it
  bool text = false;                 // whether it reads texts
  std::string problem;               // why it does not take the term; then the rest is empty
  std::optional<int64_t> trainable;  // by the record's count, without the head
  std::vector<std::string> sites;    // where it attaches: "attn.q", "norm1", "patch_embed"
  bool edits = false;                // values of the model's own parameters, before training
  std::string change;                // of block 0 and outside of blocks: BlockDiff
};

// Applies the term to a copy of the model.
MethodFacts FactsOn(const MethodTerm& term, const std::string& name, const LoadedModel& model);

// Does the same on a small built-in vision transformer or, if that does not take the term, a small
// BERT. If neither does, the result has the first one's problem.
MethodFacts FactsOnSmallModel(const MethodTerm& term);

// Where nodes were added, and where parameters of the model train or were `edited`, without the
// head: scopes without block numbers, followed by the blocks if they are not all. "everything" if
// all of the model's own parameters train, "head" if nothing else does.
std::vector<std::string> SitesOf(const Graph& before, const Graph& after,
                                 std::span<const std::string> edited = {});

}  // namespace graft
