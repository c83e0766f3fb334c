// Paths that are nearly right.
#pragma once
#include <string>

namespace graft {

// For the error of a path that is not there: "; did you mean 'photos/cats'?", by the names in the
// deepest of its directories that is there; "" if none of them is near or the path is there.
std::string DidYouMeanPath(const std::string& path);

// Throws the Error of a path that could not be opened, `error` being its errno.
[[noreturn]] void FailToOpen(const std::string& path, int error);

}  // namespace graft
