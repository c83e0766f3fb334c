// What a search has chosen where, for people.
#pragma once
#include "search/space.h"

namespace graft {

// A line for each block, a column for each kind of place; places outside of blocks come last.
std::string ChoicesText(const BoundSpace& space, const Genes& genes);
// The same as a picture, where a darker cell has more parameters.
std::string ChoicesSvg(const BoundSpace& space, const Genes& genes);

}  // namespace graft
