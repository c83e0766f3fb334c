// fuzz TARGET [options] [FILE_OR_DIRECTORY...]: runs a fuzz target on files and changes of them.
#include <CLI/CLI.hpp>

#include "fuzz/driver.h"
#include "runtime/error.h"

int main(int argc, char** argv) {
  using namespace graft::fuzz;
  Options o;
  std::string name;
  CLI::App app("Runs a fuzz target on files; with --seconds or --runs on changes of them, too.");
  app.add_option("target", name)->required();
  app.add_option("seeds", o.seeds, "files and directories");
  app.add_option("--seconds", o.seconds);
  app.add_option("--runs", o.runs, "changed inputs");
  app.add_option("--seed", o.seed)->capture_default_str();
  app.add_option("--dictionary", o.dictionary, "words, as libFuzzer's -dict");
  app.add_option("--keep", o.keep, "directory for inputs that do something new");
  app.add_option("--artifact", o.artifact, "file for an input that fails");
  app.add_option("--most-bytes", o.most_bytes)->capture_default_str();
  app.add_option("--input-seconds", o.input_seconds)->capture_default_str();
  app.add_option("--memory-mib", o.memory_mib)->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    const Target& target = FindTarget(name);
    const Result r = RunTarget(target, o);
    fmt::print("{}: {} seeds, {} runs in {:.0f} s, {} edges, {} features, corpus {}\n", name,
               r.seeds, r.runs, r.seconds, r.edges, r.features, r.corpus);
  } catch (const graft::Error& e) {
    fmt::print(stderr, "fuzz: {}\n", e.what());
    return 1;
  }
}
