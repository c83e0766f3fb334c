// What people have in the place of a file of tensors: pickles, files of other programs, pages and
// pointers that a download left. They are known by their content, and by name where a format has no
// mark, so that the error says what they are and what to do.
#pragma once
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace graft {

// A ZIP archive whose first member is a NumPy array.
bool IsZipOfArrays(std::span<const std::byte> bytes);

// Throws Error if these bytes of a file, or for want of a mark its name, are those of such a file.
void RefuseForeignFile(const std::string& path, std::span<const std::byte> bytes);

// The same for a file that must be text: a Git LFS pointer or an HTML page.
void RefuseForeignText(const std::string& path, std::string_view text);

// For a path that does not exist: Error if it is the prefix of a TensorFlow checkpoint.
void RefuseForeignPrefix(const std::string& path);

// For a directory without any of the files named in `expected`: an Error that says which others it
// has; pickles are converted to the first of `expected`.
[[noreturn]] void RefuseDirectory(const std::string& directory,
                                  const std::vector<std::string>& expected);

}  // namespace graft
