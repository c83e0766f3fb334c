// The identity of a base checkpoint: SHA-256, computed once per file. Results are kept in
// $XDG_CACHE_HOME/graft/sha256 (or ~/.cache), one small file per checkpoint, valid while its path,
// size, modification and change time are the same. A cache that cannot be read or written is only
// slower: no function here fails because of it.
#pragma once
#include <optional>
#include <string>
#include <vector>

namespace graft {

// Hashes the model's file, or a directory's shards and config.json together; "" for init:ARCH.
// Throws Error for a model that cannot be read. Any thread may call it.
std::string BaseHash(const std::string& model);

// The files that the hash is of (none for init:ARCH), and the hash of the model from theirs.
std::vector<std::string> BaseFiles(const std::string& model);
std::string JoinHashes(const std::vector<std::string>& hashes, bool directory);

// Returns the same hash if it costs nothing, because the cache has it.
std::optional<std::string> KnownBaseHash(const std::string& model);

}  // namespace graft
