// Which parameters a training rule is for, as words that a user types: --no-decay, --lr-scale.
//
// A word names a parameter by the whole of its name or by one of its parts between dots, each with
// '*': "head", "lora_b", "blocks.0.*". Some words have a meaning of their own: `bias` is every
// parameter whose name ends in bias, `norm` those of layer norms, `vector` those of one dimension.
#pragma once
#include <map>

#include "runtime/graph.h"

namespace graft {

// Whether weight decay leaves a parameter alone, by --no-decay: words joined by '|'. Throws Error
// (kUsage) for an empty word.
bool WithoutDecay(const std::string& words, const std::string& name, int rank);

// What the learning rate of a parameter is multiplied by, by --lr-scale: WORD=FACTOR joined by '|',
// of which the first whose word names it counts; 1 if none does. Throws Error (kUsage) for text of
// another form and for factors outside of 1e-6 to 1e6.
double RateFactor(const std::string& rules, const std::string& name, int rank);

// Throws Error (kUsage) if a rule of --lr-scale counts for none of the parameters that train, given
// as names with their ranks: it would do nothing, in silence.
void CheckRateRules(const std::string& rules, const std::map<std::string, int>& trainable);

// Throws Error (kUsage) if a name of --no-decay is of no parameter that trains. The words that
// stand for a kind (bias, norm, vector) may find nothing: "bias|norm" is the habit whatever the
// method.
void CheckDecayWords(const std::string& words, const std::map<std::string, int>& trainable);

// The parameters that train, with the numbers of their dimensions.
std::map<std::string, int> TrainableRanks(const Graph& g);

}  // namespace graft
