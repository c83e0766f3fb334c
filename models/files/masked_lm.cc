#include "models/files/masked_lm.h"

#include <algorithm>

#include "models/files/hf_config.h"
#include "models/transformer.h"

namespace graft {
namespace {

void CheckHead(const LoadedModel& m) {
  const std::map<std::string, Extents> shapes = ParamShapes(m.config);
  for (const auto& [name, shape] : shapes) {
    if (!name.starts_with("mlm.") || m.params.Has(name)) continue;
    Form form;
    const std::string key = NamesOf(m.layout, m.root, m.config, name, &form)[0];
    const bool aside = std::ranges::find(m.ledger.unexpected, key) != m.ledger.unexpected.end();
    if (aside)
      Fail(
          "{}: the decoder of its masked-LM head is not the word embeddings; that is not supported",
          m.source);
    Fail(
        "{}: has no masked-LM head (no tensor '{}'); hint: a checkpoint of BertForMaskedLM or "
        "BertForPreTraining",
        m.source, key);
  }
}

}  // namespace

void UseMaskedLm(LoadedModel& m, const MaskedLmTask& task, uint64_t seed) {
  BertConfig& c = m.bert();
  c.mask_rows = task.mask_rows, c.label_words = task.label_words;
  c.classes = task.label_words.empty() ? c.vocab : std::ssize(task.labels);
  m.labels = task.labels;
  c.task = kClassify;
  const bool init = m.source.starts_with("init:");
  if (init) c.pool = "cls";
  for (const std::string& name : m.params.names())
    if (name.starts_with("head.") || (init && name.starts_with("pooler."))) m.params.Erase(name);
  if (init)
    InitMissing(BuildModel(m.config), m.params, seed, "mlm.");
  else
    CheckHead(m);
}

}  // namespace graft
