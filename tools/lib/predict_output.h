// What `graft predict` shows and writes.
#pragma once
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "adapters/joint_model.h"
#include "tools/lib/predict_inputs.h"

namespace graft {

// Of each member of a joint model, the logits of the examples that could be read, in their order.
using Logits = std::vector<std::vector<float>>;

// Calls each(prediction) for the examples in order: {input, top}, or of several adapters {input,
// adapters}; of a text from a file also file and row; instead of a prediction `error` where the
// example could not be read.
void ForEachPrediction(const JointModel& joint, const PredictInputs& inputs, const Logits& logits,
                       int64_t top, const std::function<void(const nlohmann::json&)>& each);
// The same for people.
std::string PredictionText(const nlohmann::json& prediction);

// Lines of a CSV file, one for each prediction (of each adapter, if there are several): input,
// file, row, [adapter,] class, name, probability, logit of the best class, then with a number
// behind their name those of the next, and error.
std::string CsvHeader(bool several, int64_t top);
std::string CsvLines(const nlohmann::json& prediction, bool several, int64_t top);

// All logits: one array in an .npy; of several adapters, which may have different classes, an .npz.
// Examples that could not be read have NaN.
void WriteLogits(const std::string& path, const JointModel& joint, const PredictInputs& inputs,
                 const Logits& logits);

}  // namespace graft
