// The values of the method `calibration`, from inputs that say nothing.
#pragma once
#include "models/files/checkpoint.h"
#include "peft/method.h"
#include "train/run_config.h"

namespace graft {

bool WantsCalibration(const Method& method);

// The model's parameters with calibration.shift [K] = -log p_cf: p_cf is the mean of
// softmax(logits) over the blank inputs, at least 1e-8. Blank texts are "", "[MASK]" and "N/A", the
// blank image is mid-grey. REQUIRES: WantsCalibration(method).
ParamStore Calibrated(const LoadedModel& model, const Method& method, const RunConfig& config);

}  // namespace graft
