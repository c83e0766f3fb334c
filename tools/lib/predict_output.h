// What `graft predict` shows and writes.
#pragma once
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "adapters/joint_model.h"
#include "tools/lib/predict_inputs.h"

namespace graft {

// For each member of a joint model, the logits of the examples that could be read, in their order.
using Logits = std::vector<std::vector<float>>;

// How much is shown: so many classes (0: all); with several labels at once, those whose probability
// is above the threshold.
struct ShownOutputs {
  int64_t top = 0;
  double threshold = 0.5;
};
// Calls each(prediction) for the examples in order. A prediction is {input, top}; of a regression
// {input, values: [{name, value}]}; of several labels at once {input, labels, top}; of several
// adapters {input, adapters}. Texts from a file also have file and row. An example that could not
// be read has `error` in the place of a prediction.
void ForEachPrediction(const JointModel& joint, const PredictInputs& inputs, const Logits& logits,
                       const ShownOutputs& shown,
                       const std::function<void(const nlohmann::json&)>& each);
// Writes a prediction for people. A text is shown in one line of at most `text_columns` (0: as it
// is).
std::string PredictionText(const nlohmann::json& prediction, size_t text_columns = 0);

// The lines of a CSV file, one for each prediction (of each adapter, if there are several): input,
// file, row, [adapter,] class, name, probability and logit of the best class, then those of the
// next classes with a number behind their names, and error.
std::string CsvHeader(bool several, int64_t top);
std::string CsvLines(const nlohmann::json& prediction, bool several, int64_t top);
// The same for a regression, with a column for each number, and for several labels at once: labels
// (joined by '|'), then the probability of each class in a column of its name.
std::string TargetCsvHeader(const OpenedModel& opened);
std::string TargetCsvLine(const nlohmann::json& prediction, const OpenedModel& opened);

// Writes all logits: one array in an .npy or, for several adapters, which may have different
// classes, an .npz. Examples that could not be read have NaN.
void WriteLogits(const std::string& path, const JointModel& joint, const PredictInputs& inputs,
                 const Logits& logits);

}  // namespace graft
