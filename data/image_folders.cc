#include "data/image_folders.h"

#include <sys/stat.h>

#include <algorithm>

#include "data/splits.h"
#include "data/text.h"
#include "runtime/error.h"
#include "runtime/io/listing.h"
#include "runtime/utf8.h"

namespace graft {
namespace {

namespace fs = std::filesystem;
using Names = std::vector<std::string>;

const Names kExtensions = {".jpg",  ".jpeg", ".png", ".webp", ".gif", ".bmp",  ".tif",
                           ".tiff", ".ppm",  ".pgm", ".pbm",  ".pnm", ".jfif", ".jpe"};
const Names kOtherExtensions = {".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".svg",
                                ".psd",  ".raw",  ".dng",  ".cr2", ".nef", ".arw", ".ico",
                                ".tga",  ".exr",  ".hdr",  ".dcm", ".eps", ".pcx"};

// Whether a name is hidden, or one that a Mac or network storage leaves in archives and folders.
bool IsIgnored(const std::string& name) {
  return IsHidden(name) || name == "__MACOSX" || name == "@eaDir";
}

// Sub-folders and links to folders, sorted by byte value.
Names SubFolders(const fs::path& directory) {
  Names names;
  for (const DirectoryEntry& entry : ListDirectory(directory.string()))
    if (!IsIgnored(entry.name) && entry.is_directory()) names.push_back(entry.name);
  return names;
}

struct Found {
  Names images, left_out;
  size_t direct = 0;  // images that lie in the folder itself
};

// Looks through a folder and those below it. A link to a folder in which it lies is not followed.
class Walk {
 public:
  explicit Walk(const fs::path& root) {
    Visit(root);
    std::ranges::sort(found.images);
    std::ranges::sort(found.left_out);
  }

  Found found;

 private:
  void Visit(const fs::path& directory) {
    struct stat s {};
    if (stat(directory.c_str(), &s) != 0) return;
    const std::pair<dev_t, ino_t> id{s.st_dev, s.st_ino};
    if (std::ranges::find(within_, id) != within_.end()) return;
    within_.push_back(id);
    for (const DirectoryEntry& entry : ListDirectory(directory.string())) {
      if (IsIgnored(entry.name)) continue;
      if (entry.is_directory())
        Visit(directory / entry.name);
      else
        Take(directory / entry.name);
    }
    within_.pop_back();
  }

  void Take(const fs::path& path) {
    const std::string extension = ToLowerAscii(path.extension().string());
    if (Contains(kExtensions, extension)) {
      found.images.push_back(path.string());
      found.direct += within_.size() == 1;
    } else if (Contains(kOtherExtensions, extension)) {
      found.left_out.push_back(path.string());
    }
  }

  std::vector<std::pair<dev_t, ino_t>> within_;  // the folders on the way here
};

Names WithoutDot(const Names& extensions) {
  Names names;
  for (const std::string& e : extensions) names.push_back(e.substr(1));
  return names;
}

// Reads a folder with its would-be classes.
class Reader {
 public:
  Reader(const std::string& directory, const OnProblem& problem)
      : root_(directory), problem_(problem) {}

  ClassFolders Read() {
    for (const std::string& name : SubFolders(root_)) {
      const bool split = PurposeOf(name) != SplitPurpose::kOther;
      if (!split)
        others_.push_back(name);
      else if (SubFolders(root_ / name).empty())
        flat_.push_back(name);
      else
        splits_.push_back(name);
    }
    if (splits_.empty() && flat_.empty() && others_.empty()) FailNone();
    std::ranges::stable_sort(splits_, {}, [](const std::string& n) { return PurposeOf(n); });
    if (splits_.empty()) RefuseFlatSplits();
    RefuseTwoTrainings();
    if (splits_.empty()) {
      result_.class_names = others_;
      ReadSplit(root_, "train");
    } else {
      // The classes are those of the training split, so that a test split that lacks one keeps the
      // numbers.
      result_.class_names = SubFolders(root_ / splits_.front());
      for (const std::string& name : splits_) ReadSplit(root_ / name, name);
      TellOthers();
    }
    return std::move(result_);
  }

 private:
  [[noreturn]] void FailNone() const {
    const std::string directory = root_.string();
    if (const std::string texts = NearlyTexts(directory); !texts.empty())
      Fail("{}: expected texts as .tsv, .csv or .jsonl (an object in each line)", texts);
    if (const size_t images = Walk(root_).found.images.size())
      Fail(
          "{}: expected a folder for each class, found {} images without; hint: DIR/CLASS/*.jpg, "
          "or a table labels.csv with columns file,label",
          directory, images);
    Fail(
        "{}: expected a data set: images as lists such as train800.txt with lines 'path label' or "
        "as folders train/CLASS/*.png, or texts as train.csv, .tsv or .jsonl; found none of these",
        directory);
  }

  // Refuses folders with the name of a split and no class folders, if none has any.
  void RefuseFlatSplits() const {
    if (flat_.empty()) return;
    const std::string folder = (root_ / flat_[0]).string();
    const size_t images = Walk(folder).found.images.size();
    if (others_.empty())
      Fail("{}: expected class folders in the split, such as {}/CLASS/*.jpg; found {} images",
           folder, flat_[0], images);
    Fail(
        "{}: a split by its name, but it has no class folders, and lies beside folders of other "
        "names ({}); hint: move it away, or rename it if it is a class",
        folder, others_[0]);
  }

  void RefuseTwoTrainings() const {
    for (size_t i = 1; i < splits_.size(); ++i)
      if (PurposeOf(splits_[i]) == SplitPurpose::kTrain)
        Fail("{}: two folders to train on, {} and {}; hint: rename one, or put them together",
             root_.string(), splits_[0], splits_[i]);
  }

  // Reports what lies beside the splits.
  void TellOthers() {
    for (const Names* names : {&flat_, &others_})
      for (const std::string& name : *names)
        if (const size_t images = Walk(root_ / name).found.images.size())
          result_.notes.push_back(fmt::format(
              "{}: {} images are left out: {}", (root_ / name).string(), images,
              names == &flat_ ? "the split has no class folders" : "no split has such a name"));
  }

  // Reports images that lie beside class folders: they belong to none.
  void TellLoose(const fs::path& root) {
    Names loose;
    for (const DirectoryEntry& entry : ListDirectory(root.string()))
      if (!IsIgnored(entry.name) && HasImageExtension(entry.name) && !entry.is_directory())
        loose.push_back((root / entry.name).string());
    if (!loose.empty())
      result_.notes.push_back(fmt::format(
          "{}: {} beside the class folders {} left out (the first is {}); hint: an "
          "image belongs into the folder of its class",
          root.string(), loose.size() == 1 ? "1 image" : fmt::format("{} images", loose.size()),
          loose.size() == 1 ? "is" : "are", *std::ranges::min_element(loose)));
  }

  void ReadSplit(const fs::path& root, const std::string& name) {
    std::vector<Found> found;
    TellLoose(root);
    const Names folders = SubFolders(root);
    for (const std::string& folder : folders) {
      found.push_back(Walk(root / folder).found);
      for (std::string& path : found.back().left_out) result_.left_out.push_back(std::move(path));
    }
    RefuseDataSets(root, folders, found);
    Split split{name, {}};
    for (size_t i = 0; i < folders.size(); ++i) {
      const std::string where = (root / folders[i]).string();
      const auto number = std::ranges::find(result_.class_names, folders[i]);
      if (number == result_.class_names.end()) {
        problem_(fmt::format(
            "{}: the class '{}' is not among the {} class folders of the training split{}", where,
            folders[i], result_.class_names.size(), DidYouMean(folders[i], result_.class_names)));
        continue;
      }
      if (found[i].images.empty())
        problem_(fmt::format(
            "{}: expected images ({}) in the class folder, found none; hint: remove the folder if "
            "it is no class",
            where, fmt::join(WithoutDot(kExtensions), ", ")));
      for (const std::string& path : found[i].images) {
        CheckExampleCount(++examples_, path);
        split.examples.push_back({path, static_cast<int>(number - result_.class_names.begin())});
      }
    }
    if (split.examples.empty())
      problem_(fmt::format("{}: expected images, found none", root.string()));
    result_.splits.push_back(std::move(split));
  }

  // Refuses a folder of data sets: classes have images of their own, while data sets have folders.
  static void RefuseDataSets(const fs::path& root, const Names& folders,
                             const std::vector<Found>& found) {
    bool all = true;
    for (size_t i = 0; i < folders.size(); ++i) {
      all = all && found[i].direct == 0 && !found[i].images.empty();
      for (const std::string& below : SubFolders(root / folders[i]))
        if (PurposeOf(below) == SplitPurpose::kTrain &&
            !SubFolders(root / folders[i] / below).empty())
          Fail("{}: a folder of data sets, of which {} is one; hint: --data {}", root.string(),
               folders[i], ShellWord((root / folders[i]).string()));
    }
    if (all && !folders.empty())
      Fail(
          "{}: expected images in its class folders, found only folders there, as in a folder of "
          "data sets; hint: --data {}, or put the images of a class into one folder",
          root.string(), ShellWord((root / folders[0]).string()));
  }

  const fs::path root_;
  const OnProblem& problem_;
  Names splits_, flat_, others_;  // folders: splits with classes, without, and all others
  size_t examples_ = 0;
  ClassFolders result_;
};

}  // namespace

bool IsImageThatIsNotRead(const std::string& path) {
  return Contains(kOtherExtensions, ToLowerAscii(fs::path(path).extension().string()));
}

bool HasImageExtension(const std::string& path) {
  return Contains(kExtensions, ToLowerAscii(fs::path(path).extension().string()));
}

const std::vector<std::string>& ImageExtensions() { return kExtensions; }

bool HoldsClassFolders(const std::string& directory) {
  size_t classes = 0;
  for (const std::string& name : SubFolders(directory)) {
    const bool split = PurposeOf(name) != SplitPurpose::kOther;
    if (split && !SubFolders(fs::path(directory) / name).empty()) return true;
    classes += !split;
  }
  return classes > 1;
}

ClassFolders ReadClassFolders(const std::string& directory, const OnProblem& problem) {
  return Reader(directory, problem).Read();
}

}  // namespace graft
