#include "train/run_examples.h"

#include "runtime/io/sha256.h"

namespace graft {

void CheckExamples(const std::vector<std::string>& classes, const BatchSource* train,
                   const BatchSource* validation, RunDir* dir) {
  const RunConfig& c = dir->config();
  const std::string hash = HashOfExamples(classes, train, validation);
  Sha256 all;
  for (const BatchSource* data : {train, validation})
    if (data) data->HashContents(all);
  const std::string contents = all.Hex();
  if (c.examples_sha256.empty()) return dir->RecordExamples(hash, contents);
  if (hash == c.examples_sha256 && (c.contents_sha256.empty() || contents == c.contents_sha256))
    return;
  Fail(
      "{}: the examples or their classes have changed since {} began; hint: resume with the data "
      "that it began with",
      c.data, dir->path());
}

}  // namespace graft
