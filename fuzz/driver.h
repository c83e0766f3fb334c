// Calls a target with many inputs: the seeds, then changes of those that did something new.
//
// Nothing that a target does but return is right: an exception, a signal, a sanitizer's report, an
// input that takes too long or too much memory ends the process, after the input was written to
// OPTIONS.artifact with a line that says how to run it again.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace graft::fuzz {

// As libFuzzer's LLVMFuzzerTestOneInput.
using TestOneInput = int (*)(const uint8_t* data, size_t size);

struct Target {
  const char* name;
  TestOneInput test;
};
const std::vector<Target>& Targets();
const Target& FindTarget(const std::string& name);  // Error with the nearest name

struct Options {
  std::vector<std::string> seeds;  // files and directories
  std::string dictionary;          // "": none
  std::string keep;                // a directory for inputs that did something new; read first
  std::string artifact;            // "": crash-NAME in the working directory
  double seconds = 0;              // 0: no limit
  int64_t runs = 0;                // of changed inputs; 0: no limit. Both 0: the seeds only
  uint64_t seed = 1;
  size_t most_bytes = 4096;   // of a changed input, if no seed is longer
  int input_seconds = 10;     // of processor time
  int64_t memory_mib = 2048;  // resident
};

struct Result {
  size_t seeds = 0, corpus = 0;
  int64_t runs = 0;
  size_t edges = 0, features = 0;
  double seconds = 0;
};

Result RunTarget(const Target& target, const Options& options);

}  // namespace graft::fuzz
