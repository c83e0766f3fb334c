// The runs below a directory, as `graft runs` compares them: what their files say, without a model.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace graft {

// Run directories below `root` (or it itself) in the order of their paths; none inside of a run.
// Names that begin with a dot are not looked into. Throws Error if `root` is no directory.
std::vector<std::string> FindRuns(const std::string& root);

// One run as a row of JSON: the columns below, and what else is known. What its files do not say is
// null; a run whose config.json cannot be read has `error`.
nlohmann::json DescribeRun(const std::string& run);

// The objects of a file of JSON lines, none if there is no file; a torn last line is left out, and
// so are lines that are no objects, which `damaged` counts.
std::vector<nlohmann::json> ReadJsonLines(const std::string& file, size_t* damaged = nullptr);
// The lines of metrics.jsonl of a run.
std::vector<nlohmann::json> ReadMetrics(const std::string& run, size_t* damaged = nullptr);

// run, method, model, data, lr, epochs, trainable_parameters, metric, best, last, seconds,
// peak_memory_bytes, status.
const std::vector<std::string>& RunColumns();

// In the order of a column: the best metric, the smallest number or the first name comes first,
// `reverse` the other way round; what is not known comes last. Equal ones keep their order. Throws
// Error (kUsage) for no column.
void SortRuns(std::vector<nlohmann::json>* runs, const std::string& column, bool reverse);

std::string RunsCsv(const std::vector<nlohmann::json>& runs);
// Makes the table for people: paths are relative to `root` and short, unknown is "-". In at most
// `columns` (0: any) memory, status, trainable, model, data, time, last, epochs, metric and lr are
// left out, in this order, and names are cut.
std::string RunsText(const std::vector<nlohmann::json>& runs, const std::string& root,
                     size_t columns = 0);

// A field of a CSV file (RFC 4180), in quotes where it needs them.
std::string CsvField(const std::string& text);

}  // namespace graft
