// Shows what a run is right and wrong about, as a part of a page.
#pragma once
#include "tools/reports/page.h"
#include "tools/reports/run_quality.h"

namespace graft {

// Adds the measures of the task. Of classes these are precision, recall and F1 of each, and what is
// taken for what; of a regression the measures of each column, and predicted over true numbers; of
// several labels the measures of each. The examples with the largest losses follow, as pictures or
// as texts.
void AddQuality(const RunQuality& quality, Page* page);

// A small picture of a file as a data URI; "" if it is no image, or no longer there.
std::string Thumbnail(const std::string& path, bool upright);
// A text cut to what a cell of a table shows.
HtmlCell TextCell(const std::string& text);

}  // namespace graft
