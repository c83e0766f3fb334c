// Times steps of training or inference, node by node.
#pragma once
#include "adapters/open_model.h"
#include "runtime/call_log.h"
#include "tools/lib/options.h"
#include "tools/profiles/counters.h"
#include "tools/profiles/node_table.h"

namespace graft {

struct ProfileWork {
  std::string model, method, arch;  // no method: inference
  // The sequences of a step and of a micro-batch (0: chosen), and the tokens of a text (0: chosen).
  int64_t batch = 16, micro_batch = 0, length = 0;
  int64_t steps = 5, classes = 10;
};

struct Profile {
  std::string architecture, plan;  // plan: how the step is cut, for people
  int64_t length = 0;              // tokens of a text; 0 for images
  std::vector<double> step_ms;     // in order
  double compile_ms = 0;
  Cost cost;                                   // of a step
  size_t planned_bytes = 0, needed_bytes = 0;  // needed: with weights and optimizer state
  size_t peak_bytes = 0;                       // of the process, when the steps were done
  int64_t micro_batch = 0, trainable = 0, recomputed = 0;
  std::string products = "f32";  // the precision that they are in
  int workers = 1;               // micro-batches beside each other
  std::vector<ProfiledNode> nodes;
  // With `events`: the kernel calls of the timed steps, and how many came too late to be kept.
  std::vector<CallEvent> events;
  size_t lost_events = 0;
  std::vector<std::pair<int64_t, int64_t>> step_ns;  // begin and end, of the same clock
  CounterValues counters;                            // of all timed steps
};

// Gives the model a head of `classes` if the method needs one, and prints what a user should know
// of it. Throws Error for a model or method that does not exist.
LoadedModel ProfiledModel(const ProfileWork& work, const CommonOptions& common);
// How many tokens texts have; 0 for a model that reads images. Throws Error (kUsage) for a length
// that the model does not have.
int64_t TextLength(const ProfileWork& work, const LoadedModel& model);

// Measures steps; the first one touches all memory and is not timed. `model` comes from
// ProfiledModel; a method changes its parameters.
Profile MeasureProfile(const ProfileWork& work, const CommonOptions& common, LoadedModel& model,
                       bool events);

}  // namespace graft
