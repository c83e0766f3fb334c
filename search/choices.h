// Shows people what a search has chosen, and where.
#pragma once
#include "search/space.h"

namespace graft {

// Writes a line for each block and a column for each kind of place; places outside of blocks come
// last.
std::string ChoicesText(const BoundSpace& space, const Genes& genes);
// Draws the same as a picture, in which a darker cell has more parameters.
std::string ChoicesSvg(const BoundSpace& space, const Genes& genes);

}  // namespace graft
