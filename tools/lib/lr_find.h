// --lr-find: a short training with a rate that grows (Smith 2017, arXiv 1506.01186), and what it
// says.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "train/run_config.h"
#include "train/trainer.h"

namespace graft {

struct RatePoint {
  double lr = 0, loss = 0;
};

// Trains for kFindSteps steps, in a directory that is removed afterwards, while the rate grows by a
// constant factor from kFindLeast to kFindMost. Ends early where the loss is four times its least.
// `hooks` hears of the steps. Throws Error of kind kInterrupted if their `stop` asks for it.
std::vector<RatePoint> TryRates(RunConfig config, const TrainHooks& hooks);

// The losses as a running mean, in which the past has the weight 0.9.
std::vector<double> SmoothLosses(std::span<const RatePoint> points);
// The rate at which the smoothed loss falls fastest in log(rate), before its least value; 0 if it
// never falls.
double SuggestRate(std::span<const RatePoint> points);
// A line for every few points, with rate, loss and a bar; the suggestion is marked.
std::string RatePlot(std::span<const RatePoint> points, double suggestion);

}  // namespace graft
