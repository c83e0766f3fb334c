// The truth: runs any graph in double precision through the records' references.
#pragma once
#include "runtime/op.h"
#include "runtime/params.h"

namespace graft {

// Values by id; leaves are put in by the caller, intermediates filled in by Interpret.
using Values64 = std::vector<std::vector<double>>;

struct InterpretOptions {
  Counts counts;
  // Values by leaf name; names that the graph does not have are ignored.
  std::map<std::string, std::vector<double>> leaves;
  const ParamStore* params = nullptr;  // for parameters that `leaves` does not give
};
// Throws Error for a leaf that is missing or has another size. States start at zero. All phases run
// once, and the update phase sees what the main phase has put into the states, as in a session.
Values64 Interpret(const Graph& g, const InterpretOptions& options);

// Runs one node and returns its results.
std::vector<std::vector<double>> RunReference(const OpDef& op, const Attrs& attrs,
                                              std::span<const std::vector<double>> in,
                                              std::span<const Extents> in_shape,
                                              std::span<const Extents> out_shape);

}  // namespace graft
