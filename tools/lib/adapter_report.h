// `graft inspect` of adapters: ours, and those of Hugging Face peft.
#pragma once
#include "adapters/adapter_file.h"
#include "adapters/hf/peft_reader.h"
#include "models/files/checkpoint.h"
#include "tools/lib/output.h"

namespace graft {

// Prints a recipe and its tensors; without the base there is no graph.
void InspectAdapter(const std::string& path, const CommonOptions& common);
void InspectPeft(const std::string& path, const CommonOptions& common);

// Prints what each key of an adapter, or of a run, is on a base. Throws Error if one does not fit;
// for an adapter of peft after the ledger has been printed.
void InspectAdapterOn(const std::string& base, const std::string& arch, const std::string& adapter,
                      const CommonOptions& common);

std::string KeysText(const KeyLedger& ledger);
nlohmann::json KeysJson(const KeyLedger& ledger);

}  // namespace graft
