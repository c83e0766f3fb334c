// Shows the options that an ablation varies, as a part of a page.
#pragma once
#include "tools/reports/page.h"
#include "tools/reports/suite_matrix.h"

namespace graft {

// Adds for each option with several values a chart of the mean over the tasks, in which numbers are
// an axis and words are bars, with a line for each combination of the other options (of many
// combinations their mean); and a table of what each value gives over all combinations of the
// others.
void AddAxes(const SuiteMatrix& m, Page* page);

}  // namespace graft
