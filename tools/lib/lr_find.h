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

// Trains for kFindSteps steps, the rate growing from kFindLeast to kFindMost by a factor, in a
// directory that is gone afterwards; ends where the loss is four times its least. `hooks` hears of
// the steps. Throws Error of kind kInterrupted where its stop says so.
std::vector<RatePoint> TryRates(RunConfig config, const TrainHooks& hooks);

// The losses as a running mean, whose weight of the past is 0.9.
std::vector<double> SmoothLosses(std::span<const RatePoint> points);
// The rate where the smoothed loss falls fastest in log(rate), before its least; 0 if it never
// falls.
double SuggestRate(std::span<const RatePoint> points);
// A line for every few points: rate, loss, a bar; the suggestion is marked.
std::string RatePlot(std::span<const RatePoint> points, double suggestion);

}  // namespace graft
