// `graft inspect` of adapters: ours, and those of Hugging Face peft.
#pragma once
#include "models/files/checkpoint.h"
#include "tools/lib/options.h"

namespace graft {

// A recipe and its tensors: there is no graph without the base.
void InspectAdapter(const std::string& path, const CommonOptions& common);
void InspectPeft(const std::string& path, const CommonOptions& common);

// What each key of an adapter, or of a run, is on a base. Throws Error if one does not fit; for one
// of peft after the ledger has been printed.
void InspectAdapterOn(const std::string& base, const std::string& arch, const std::string& adapter,
                      const CommonOptions& common);

std::string KeysText(const KeyLedger& ledger);
nlohmann::json KeysJson(const KeyLedger& ledger);

}  // namespace graft
