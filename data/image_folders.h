// Class folders with images: DIR/<split>/<class>/**, or DIR/<class>/**.
#pragma once
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "data/dataset.h"

namespace graft {

// Whether a path ends as those of images do that can be read.
// Whether a name ends as one of an image whose format is not read, such as .heic.
bool IsImageThatIsNotRead(const std::string& path);
bool HasImageExtension(const std::string& path);

// ".jpg" and the like.
const std::vector<std::string>& ImageExtensions();

// Whether a folder has splits with class folders, or two folders at least that may be classes.
bool HoldsClassFolders(const std::string& directory);

// What is done with a mistake that does not keep the rest from being read: it is thrown as Error,
// or kept.
using OnProblem = std::function<void(const std::string& message)>;

struct ClassFolders {
  std::vector<Split> splits;
  std::vector<std::string> class_names;
  std::vector<std::string> left_out;  // images of formats that are not read
  std::vector<std::string> notes;
};

// Links are followed, and folders below a class's are read, too, except hidden files and folders
// and what operating systems leave behind. Folders with the name of a split must be splits, or
// there is an Error; the same holds for a folder of data sets, whose would-be classes hold nothing
// but folders.
ClassFolders ReadClassFolders(const std::string& directory, const OnProblem& problem);

}  // namespace graft
