// What `graft predict` shows and writes.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "adapters/joint_model.h"
#include "tools/lib/predict_inputs.h"

namespace graft {

// Of each member of a joint model, the logits of the examples that could be read, in their order.
using Logits = std::vector<std::vector<float>>;

// Predictions of all examples as JSON, [{input, top}] or of several adapters [{input, adapters}];
// of a text from a file also file and row; instead of predictions `error` where the example could
// not be read.
nlohmann::json PredictionsJson(const JointModel& joint, const PredictInputs& inputs,
                               const Logits& logits, int64_t top);
// The same for people, an example after the other.
std::vector<std::string> PredictionLines(const nlohmann::json& predictions);

// A line for each prediction of PredictionsJson (of each adapter, if there are several). CSV: input,
// file, row, [adapter,] class, name, probability, logit of the best class, then with a number
// behind their name those of the next, and error. JSON lines: the objects.
std::string PredictionsCsv(const nlohmann::json& predictions, int64_t top);
std::string PredictionsJsonLines(const nlohmann::json& predictions);

// All logits: one array in an .npy; of several adapters, which may have different classes, an .npz.
// Examples that could not be read have NaN.
void WriteLogits(const std::string& path, const JointModel& joint, const PredictInputs& inputs,
                 const Logits& logits);

}  // namespace graft
