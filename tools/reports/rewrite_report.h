// Shows what the method of a run did to its model, as a part of a page.
#pragma once
#include "tools/reports/page.h"
#include "train/run_config.h"

namespace graft {

// Adds what trains, as a table; the graph of the first block that the method changes, as a picture;
// and all changes as text. Throws Error where the base is gone or is another one.
void AddRewrite(const RunConfig& config, Page* page);

}  // namespace graft
