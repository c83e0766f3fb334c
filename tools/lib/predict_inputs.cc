#include "tools/lib/predict_inputs.h"

#include <glob.h>
#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <ranges>

#include "data/image_folders.h"
#include "data/image_places.h"
#include "data/splits.h"
#include "data/text_labels.h"
#include "runtime/io/files_read.h"
#include "runtime/io/listing.h"
#include "runtime/io/near_path.h"
#include "runtime/utf8.h"
#include "tools/lib/predict_tables.h"
#include "tools/lib/report.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

const std::vector<std::string> kTables{".csv", ".tsv", ".jsonl"};
const std::vector<std::string> kTexts{".csv", ".tsv", ".jsonl", ".txt"};

// Also of arrays, as tests and other programs leave them.
const std::vector<std::string>& ImageEndings() {
  static const std::vector<std::string> kAll = [] {
    std::vector<std::string> endings = ImageExtensions();
    endings.push_back(".npy");
    return endings;
  }();
  return kAll;
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ","));
}

// Adds what `entries`, those of a folder, and the folders below hold; linked folders and those that
// may not be read are not entered. Images that the model or the decoders do not read go to
// `left_out`.
void AddFiles(const fs::path& folder, const std::vector<DirectoryEntry>& entries,
              const std::vector<std::string>& endings, std::vector<std::string>* files,
              std::vector<std::string>* left_out) {
  for (const DirectoryEntry& entry : entries) {
    const fs::path path = folder / entry.name;
    if (IsHidden(entry.name)) continue;
    if (!entry.is_directory()) {
      const std::string ending = ToLowerAscii(path.extension().string());
      if (Contains(endings, ending))
        files->push_back(path.string());
      else if (Contains(ImageEndings(), ending) || IsImageThatIsNotRead(path.string()))
        left_out->push_back(path.string());
    } else if (!entry.link) {
      AddFiles(path, ListIfReadable(path.string()), endings, files, left_out);
    }
  }
}

// Adds the files below a folder in the order of their names.
void FilesBelow(const std::string& folder, bool images, std::vector<std::string>* files,
                std::vector<std::string>* notes) {
  const size_t before = files->size();
  std::vector<std::string> left_out;
  const std::vector<std::string>& endings = images ? ImageEndings() : kTexts;
  AddFiles(folder, ListDirectory(folder), endings, files, &left_out);
  if (files->size() == before)
    Fail("{}: no {} in this folder ({})", folder, images ? "images" : "texts",
         fmt::join(endings, ", "));
  std::sort(files->begin() + static_cast<ptrdiff_t>(before), files->end());
  if (left_out.empty()) return;
  notes->push_back(fmt::format(
      "{}: {} {} left out (the first is {})", folder, Counted(std::ssize(left_out), "image"),
      images ? "of a format that is not read" : "that the model, which reads texts, cannot read",
      *std::ranges::min_element(left_out)));
}

void Matches(const std::string& pattern, bool images, std::vector<std::string>* files,
             std::vector<std::string>* notes) {
  glob_t found{};
  const int result = glob(pattern.c_str(), GLOB_TILDE, nullptr, &found);
  std::vector<std::string> paths(found.gl_pathv,
                                 found.gl_pathv + (result == 0 ? found.gl_pathc : 0));
  globfree(&found);
  if (paths.empty()) Fail("{}: no file has such a name", pattern);
  for (const std::string& path : paths)
    if (fs::is_directory(path))
      FilesBelow(path, images, files, notes);
    else
      files->push_back(path);
}

// Opens an array of normalised images. They are checked once here, and read again when their turn
// comes.
NpyRows OpenArray(const std::string& path, const VitConfig& config) {
  NpyRows rows = NpyRows::Open(path);
  const int64_t side = config.image_size;
  const std::vector<int64_t>& shape = rows.shape();
  if (shape.size() != 4 || shape[0] < 1 || shape[1] != config.channels || shape[2] != side ||
      shape[3] != side)
    Fail("{}: expected normalised images of shape [n,{},{},{}], found {}", path, config.channels,
         side, side, ShapeText(shape));
  std::vector<float> image(rows.row_size());
  for (int64_t i = 0; i < rows.count(); ++i) {
    rows.Read(i, image.data());
    if (!std::ranges::all_of(image, [](float x) { return std::isfinite(x); }))
      Fail("{}: holds values that are not finite", path);
  }
  return rows;
}

// What is wrong with a path at which there is nothing, else "".
std::string Missing(const std::string& path) {
  struct stat s;
  if (stat(path.c_str(), &s) == 0) return "";
  return fmt::format("{}: no such file{}", path, DidYouMeanPath(path));
}

// Adds the images that the rows of a table name.
void AddTable(const std::string& path, const std::string& columns, const std::string& usual,
              PredictInputs* inputs, std::vector<Example>* images,
              std::vector<std::string>* notes) {
  try {
    const TextRows table = ReadImageRows(path, columns, usual);
    std::vector<std::string> names;
    for (const TextRow& row : table.rows)
      if (row.error.empty()) names.push_back(row.text);
    const ImagePlaces places = PlacesOfImages(path, names);
    if (const std::string note = places.Note(); !note.empty()) notes->push_back(path + ": " + note);
    if (places.found == 0 && !names.empty() && std::ranges::none_of(names, HasImageExtension))
      Fail("{}: expected names of images, found '{}'", path, FirstBytes(names[0], 60));
    for (const TextRow& row : table.rows) {
      const std::string image = row.error.empty() ? places.Path(row.text) : path;
      const std::string error = row.error.empty() ? Missing(image) : row.error;
      inputs->Add({image, path, row.number, error}, error.empty() ? 0 : PredictInputs::kNone);
      if (error.empty()) images->push_back({image, 0});
    }
  } catch (const Error& e) {
    if (e.kind == ErrorKind::kUsage) throw;
    inputs->Add({path, path, 0, e.what()}, PredictInputs::kNone);
  }
}

// Whether the text is the number or the name of a class.
bool IsLabel(const std::string& text, const OpenedModel& opened) {
  const std::vector<std::string>& names = opened.labels();
  const bool digits = !text.empty() && text.find_first_not_of("0123456789") == text.npos;
  return digits || std::ranges::find(names, text) != names.end();
}

}  // namespace

bool NamesTable(const std::string& path) {
  return Contains(kTables, ToLowerAscii(fs::path(path).extension().string()));
}

size_t PredictInputs::failed() const {
  return static_cast<size_t>(
      std::ranges::count_if(examples, [](const PredictInput& e) { return !e.error.empty(); }));
}

const std::string& PredictInputs::first() const {
  return std::ranges::find_if(examples, [](const PredictInput& e) { return !e.error.empty(); })
      ->error;
}

std::vector<std::string> ExpandInputs(const std::vector<std::string>& words, bool images,
                                      std::vector<std::string>* notes) {
  std::vector<std::string> files;
  std::error_code error;
  for (const std::string& word : words) {
    if (fs::is_directory(word, error))
      FilesBelow(word, images, &files, notes);
    else if (!fs::exists(word, error) && word.find_first_of("*?[") != word.npos)
      Matches(word, images, &files, notes);
    else
      files.push_back(word);
  }
  return files;
}

PredictInputs OpenImages(const std::vector<std::string>& files, const std::string& columns,
                         const std::string& usual, const OpenedModel& opened,
                         std::vector<std::string>* notes) {
  const VitConfig& c = opened.model.vit();
  PredictInputs inputs;
  std::vector<Example> images;  // group 0, null without any
  inputs.data.resize(1);
  for (const std::string& path : files) {
    RecordRead(path);
    if (const std::string missing = Missing(path); !missing.empty()) {
      inputs.Add({path, "", 0, missing}, PredictInputs::kNone);
    } else if (NamesTable(path)) {
      AddTable(path, columns, usual, &inputs, &images, notes);
    } else if (!path.ends_with(".npy")) {
      inputs.Add({path, "", 0, ""}, 0);
      images.push_back({path, 0});
    } else {
      try {
        NpyRows rows = OpenArray(path, c);
        for (int64_t i = 0; i < rows.count(); ++i)
          inputs.Add({rows.count() > 1 ? fmt::format("{}[{}]", path, i) : path, "", 0, ""},
                     inputs.data.size());
        inputs.data.push_back(MakeArrayData(std::move(rows)));
      } catch (const Error& e) {
        inputs.Add({path, "", 0, e.what()}, PredictInputs::kNone);
      }
    }
  }
  if (!images.empty()) inputs.data[0] = MakeImageData(images, opened.preprocess, c);
  return inputs;
}

PredictInputs OpenTexts(const std::vector<std::string>& texts,
                        const std::vector<std::string>& files, const std::string& columns,
                        const std::string& usual, const OpenedModel& opened,
                        std::vector<std::string>* notes) {
  PredictInputs inputs;
  std::vector<TextExample> examples;
  const auto add = [&](TextRow row, const std::string& file) {
    if (const std::string wrong = WrongTexts(opened.facts, row.second.has_value());
        row.error.empty() && !wrong.empty())
      row.error = fmt::format("{}: found {}", file.empty() ? "--text" : file, wrong);
    const bool bad = !row.error.empty();
    inputs.Add({row.shown, file, row.number, row.error}, bad ? PredictInputs::kNone : 0);
    CheckExampleCount(examples.size() + 1, file);
    if (!bad) examples.push_back({std::move(row.text), std::move(row.second), 0});
  };
  for (const std::string& text : texts) {
    TextRow row = ParseTextLine(text, "--text");
    if (!row.error.empty()) Fail("{}", row.error);
    add(std::move(row), "");
  }
  for (const std::string& path : files) {
    try {
      if (HasImageExtension(path))
        Fail("{}: an image by its name, and {} reads texts", path, opened.description);
      TextRows rows = ReadTextRows(path, columns, usual);
      if (rows.rows.empty())
        Fail("{}: expected a text in each {}, found none", path, rows.table ? "row" : "line");
      if (rows.commas)
        notes->push_back(path + ": line 1 has one column, so commas in others belong to the texts");
      const auto labelled = [&](const TextRow& row) {
        return row.second && IsLabel(*row.second, opened);
      };
      // A single row with a class may also be a pair whose second text is such a word.
      if (rows.unnamed_pairs && rows.table && rows.rows.size() > 2 && !labelled(rows.rows[0]) &&
          std::ranges::all_of(rows.rows | std::views::drop(1), labelled)) {
        notes->push_back(path + ":1: names the columns, as what follows has classes");
        rows.rows.erase(rows.rows.begin());
        for (TextRow& row : rows.rows) --row.number;
      }
      const bool labels = rows.unnamed_pairs && std::ranges::all_of(rows.rows, labelled);
      if (labels && rows.table)
        notes->push_back(path + ": the second column holds classes, which are not read");
      if (labels && !rows.table)
        notes->push_back(path +
                         ": the second column holds classes, but was read as the second text "
                         "of a pair; hint: graft eval reads labelled texts");
      for (TextRow& row : rows.rows) {
        if (labels && rows.table) row.shown = row.text, row.second.reset();
        add(std::move(row), path);
      }
    } catch (const Error& e) {
      if (e.kind == ErrorKind::kUsage) throw;
      inputs.Add({path, path, 0, e.what()}, PredictInputs::kNone);
    }
  }
  inputs.data.resize(1);
  if (!examples.empty()) inputs.data[0] = MakeTextData(examples, opened.model, opened.facts);
  return inputs;
}

}  // namespace graft
