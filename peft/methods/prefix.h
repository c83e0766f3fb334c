// Prefixes of attention, for the methods that are made of them.
#pragma once
#include "peft/parameters.h"

namespace graft {

// Adds keys and values blocks.N.attn.METHOD_k and METHOD_v [tokens,D] to every attention, and
// returns to how many.
int AddStoredKeys(const MethodArgs& a, int64_t tokens, const std::string& method, const Init& init,
                  double dropout);

// Adds a prefix by the options tokens, mlp and, where the record has it, dropout.
int AddPrefix(const MethodArgs& a);
int64_t PrefixCount(const MethodArgs& a);

}  // namespace graft
