// A run as a section of a page.
#pragma once
#include "tools/reports/page.h"

namespace graft {

// What its files say, without its model or data: settings, the course of loss, rate and validation
// over the epochs as charts and as a table, time, memory. Throws Error for what is no run.
void AddRun(const std::string& run, Page* page);

}  // namespace graft
