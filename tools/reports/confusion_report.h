// Shows classes, and what is taken for what, as a part of a page.
#pragma once
#include "data/metrics.h"
#include "tools/reports/page.h"

namespace graft {

// Adds precision, recall, F1 and number of examples of each class; with few classes the whole
// matrix, with a row for each label and a column for each prediction; and which classes are most
// often taken for which.
void AddConfusion(const ConfusionMatrix& m, const std::vector<std::string>& labels, Page* page);

// The first `most` letters of a text, with dots in the place of the others.
std::string CutText(const std::string& text, size_t most);

}  // namespace graft
