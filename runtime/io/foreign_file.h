// Recognises what people have in the place of a file of tensors: pickles, files of other programs,
// and the pages and pointers that a download has left. Content tells them, and the name where a
// format has no mark, so that the error says what the file is and what to do.
#pragma once
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace graft {

// Whether it is a ZIP archive whose first member is a NumPy array.
bool IsZipOfArrays(std::span<const std::byte> bytes);

// Throws Error if these bytes of a file (or its name, where a format has no mark) are those of a
// foreign file.
void RefuseForeignFile(const std::string& path, std::span<const std::byte> bytes);

// Throws Error if a file that must be text is a Git LFS pointer or an HTML page.
void RefuseForeignText(const std::string& path, std::string_view text);

// Throws Error if a path that does not exist is what the names of a TensorFlow checkpoint begin
// with.
void RefuseForeignPrefix(const std::string& path);

// Throws Error for a directory without any of the files named in `expected`, and says which others
// it has. For pickles it tells how to convert them to the first of `expected`.
[[noreturn]] void RefuseDirectory(const std::string& directory,
                                  const std::vector<std::string>& expected);

}  // namespace graft
