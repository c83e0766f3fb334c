// The identity of a base checkpoint: SHA-256, computed once per file. Results are kept in
// $XDG_CACHE_HOME/graft/sha256 (or ~/.cache), one small file per checkpoint, valid while its path,
// size, modification and change time are the same. A cache that cannot be read or written is only
// slower: no function here fails because of it.
#pragma once
#include <optional>
#include <string>

namespace graft {

// Hashes the model's file, or a directory's shards and config.json together; "" for init:ARCH.
// Throws Error for a model that cannot be read. Any thread may call it.
std::string BaseHash(const std::string& model);

// Returns the same hash if it costs nothing, because the cache has it.
std::optional<std::string> KnownBaseHash(const std::string& model);

}  // namespace graft
