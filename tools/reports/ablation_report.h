// The options that an ablation varies, as a part of a page.
#pragma once
#include "tools/reports/page.h"
#include "tools/reports/suite_matrix.h"

namespace graft {

// For each option with several values a chart of the mean over the tasks, numbers as an axis and
// words as bars, with a line for each combination of the others (of many combinations their mean);
// and a table of what each value comes to over all combinations of the others.
void AddAxes(const SuiteMatrix& m, Page* page);

}  // namespace graft
