#include "tools/lib/label_kind.h"

#include "train/dataset.h"

namespace graft {

void AddTaskOption(CLI::App& command, std::string& task) {
  command.add_option("--task", task,
                     "of texts: classify, regression or multi-label, as in graft train");
}

LabelKind KindOfData(const std::string& task, const std::string& directory,
                     const TextColumns& columns) {
  if (task == kTaskByData) return TellLabelKind(ClassesOf(directory), columns);
  AdapterFacts facts;
  facts.task = task;
  CheckFacts(facts);
  return KindOf(task);
}

}  // namespace graft
