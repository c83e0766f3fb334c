#include "runtime/io/foreign_file.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "runtime/error.h"
#include "runtime/io/listing.h"

namespace graft {
namespace {

namespace fs = std::filesystem;
using namespace std::string_view_literals;

struct Kind {
  std::string what;  // "an HDF5 file", "" for none
  std::string hint;
  bool pickle = false;
};

constexpr const char* kOtherFile = "take the model's safetensors or PyTorch file";
constexpr const char* kZip = "a ZIP archive";
constexpr const char* kArrays = "an archive of NumPy arrays (.npz)";
constexpr const char* kUnpack = "unpack it";
constexpr const char* kAgain = "download the file itself again";

std::string_view View(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

bool IsText(std::string_view text) {
  return std::ranges::all_of(
      text, [](char c) { return (c >= 32 && c < 127) || c == '\n' || c == '\r' || c == '\t'; });
}

// The text without its first spaces, its beginning in lower case.
std::string TextHead(std::string_view text) {
  constexpr size_t kHead = 64;
  const size_t at = std::min(text.find_first_not_of(" \t\r\n"), text.size());
  std::string head(text.substr(at, kHead));
  for (char& c : head)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return head;
}

Kind TextKind(std::string_view text) {
  if (text.starts_with("version https://git-lfs"))
    return {"a Git LFS pointer, not the file itself", "git lfs pull"};
  const std::string head = TextHead(text);
  for (const char* tag : {"<!doctype html", "<html", "<head"})
    if (head.starts_with(tag))
      return {"an HTML page, not the file itself",
              fmt::format("{}; on a model hub its address has /resolve/, not /blob/", kAgain)};
  return {};
}

// Tells which archive it is. PyTorch's hold NAME/data.pkl; names stand before the members and at
// the end.
Kind ZipKind(std::string_view bytes) {
  constexpr size_t kFirst = 4096, kLast = 1 << 16;
  const auto holds = [&](std::string_view name) {
    return bytes.substr(0, kFirst).find(name) != bytes.npos ||
           bytes.substr(bytes.size() - std::min(bytes.size(), kLast)).find(name) != bytes.npos;
  };
  if (bytes.substr(0, kFirst).find(".npy"sv) != bytes.npos)
    return {kArrays, "of this kind only a model of the original ViT is read"};
  if (holds("/constants.pkl"sv))
    return {"a TorchScript program, which is not run",
            "save the state_dict() of the model that it was made of, as safetensors"};
  if (holds("data.pkl"sv)) return {"a PyTorch pickle", "", true};
  if (holds("model.weights.h5"sv)) return {"a Keras model", kOtherFile};
  return {kZip, kUnpack};
}

// Whether it is a map whose first key is a word, as Flax writes its parameters.
bool IsMessagePack(std::string_view bytes) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  if (bytes.size() < 8) return false;
  const size_t at = byte(0) == 0xde ? 3 : byte(0) == 0xdf ? 5 : byte(0) >> 4 == 8 ? 1 : 0;
  if (at == 0 || byte(0) == 0x80) return false;
  const unsigned char key = byte(at);
  const size_t length = key > 0xa0 && key < 0xc0 ? key - 0xa0u : 0;
  return length > 0 && at + 1 + length <= bytes.size() && IsText(bytes.substr(at + 1, length));
}

// Whether it is a protocol buffer with ir_version = 1..20, then the producer's name or the graph.
bool IsOnnx(std::string_view bytes) {
  if (bytes.size() < 4 || bytes[0] != 0x08 || bytes[1] < 1 || bytes[1] > 20) return false;
  if (bytes[2] == 0x3a) return true;
  const size_t length = static_cast<unsigned char>(bytes[3]);
  return bytes[2] == 0x12 && length < 64 && bytes.size() >= 4 + length &&
         IsText(bytes.substr(4, length));
}

// Tells formats that have a mark by it, and ZIP archives by what they hold.
Kind MarkedKind(std::string_view bytes) {
  if (bytes.starts_with("PK\x03\x04"sv)) return ZipKind(bytes);
  if (bytes.size() >= 2 && bytes[0] == '\x80' && bytes[1] >= 2 && bytes[1] <= 5)
    return {"a PyTorch pickle", "", true};
  constexpr std::string_view kTable = "\x57\xfb\x80\x8b\x24\x75\x47\xdb"sv;  // at the end
  if (bytes.ends_with(kTable)) return {"the index of a TensorFlow checkpoint", kOtherFile};
  struct Mark {
    std::string_view bytes;
    const char *what, *hint;
    size_t at = 0;
  };
  static constexpr Mark kMarks[] = {{"GGUF"sv, "a GGUF file (llama.cpp)", kOtherFile},
                                    {"\x89HDF\r\n\x1a\n"sv, "an HDF5 file (Keras)", kOtherFile},
                                    {"\x93NUMPY"sv, "a single NumPy array", kOtherFile},
                                    {"TFL3"sv, "a TensorFlow Lite model", kOtherFile, 4},
                                    {"ustar"sv, "a tar archive", kUnpack, 257},
                                    {"\x1f\x8b"sv, "a file compressed by gzip", kUnpack},
                                    {"\x28\xb5\x2f\xfd"sv, "a file compressed by zstd", kUnpack},
                                    {"\xfd\x37zXZ\x00"sv, "a file compressed by xz", kUnpack},
                                    {"BZh"sv, "a file compressed by bzip2", kUnpack},
                                    {"Rar!"sv, "a RAR archive", kUnpack},
                                    {"7z\xbc\xaf\x27\x1c"sv, "a 7z archive", kUnpack}};
  for (const Mark& mark : kMarks)
    if (bytes.size() > mark.at && bytes.substr(mark.at).starts_with(mark.bytes))
      return {mark.what, mark.hint};
  if (IsOnnx(bytes)) return {"an ONNX model", kOtherFile};
  if (IsMessagePack(bytes)) return {"a MessagePack file (Flax)", kOtherFile};
  return {};
}

bool EndsWithAny(const std::string& name, std::initializer_list<const char*> ends) {
  return std::ranges::any_of(ends, [&](const char* end) { return name.ends_with(end); });
}

Kind NamedKind(const std::string& path) {
  if (EndsWithAny(path, {".bin", ".pt", ".pth", ".pth.tar", ".ckpt", ".pkl"}))
    return {"a PyTorch pickle by its name", "", true};
  if (path.find(".data-0") != path.npos || path.ends_with(".index"))
    return {"a part of a TensorFlow checkpoint", kOtherFile};
  if (EndsWithAny(path, {".pb", ".onnx", ".h5", ".msgpack", ".tflite"}))
    return {"a model of another program by its name", kOtherFile};
  return {};
}

Kind KindOf(const std::string& path, std::string_view bytes) {
  constexpr size_t kShown = 40;
  if (Kind kind = TextKind(bytes); !kind.what.empty()) return kind;
  if (Kind kind = MarkedKind(bytes); !kind.what.empty()) {
    const bool own = path.ends_with(".npz") && kind.what == kZip;  // its reader says more
    return own ? Kind() : kind;
  }
  if (Kind kind = NamedKind(path); !kind.what.empty()) return kind;
  std::string start(bytes.substr(0, kShown));
  if (start.size() < 8 || !IsText(start)) return {};
  if (path.ends_with(".json")) return {"JSON, not tensors", "name the directory that it is in"};
  std::ranges::replace_if(
      start, [](char c) { return c < 32; }, ' ');
  return {fmt::format("text that begins with '{}'", start), kAgain};
}

// A name beside the pickle that no file has yet.
std::string ConvertedName(const std::string& pickle) {
  std::string stem = pickle;
  for (const char* end : {".tar", ".pth", ".pt", ".bin", ".ckpt", ".pkl", ".safetensors"})
    if (stem.ends_with(end)) stem.resize(stem.size() - std::string_view(end).size());
  std::string name = stem + ".safetensors";
  std::error_code ignored;
  for (int i = 2; fs::exists(name, ignored); ++i) name = fmt::format("{}-{}.safetensors", stem, i);
  return name;
}

// A command that converts pickles. The checkpoint may be the dictionary itself, or stand under a
// key beside that of an optimizer: it is what holds the most tensors. Options of argparse and
// numbers of numpy, which training scripts store beside it, run no code. Tied tensors share memory,
// which safetensors refuses, so each is copied. Lightning and DataParallel put a word before each
// name, which is taken off.
std::string Conversion(const std::vector<std::string>& pickles, const std::string& out) {
  constexpr const char* kProgram =
      "import argparse, sys, numpy as n, torch, safetensors.torch as s; "
      "*files, out = sys.argv[1:]; d = {}; "
      "getattr(torch.serialization, 'add_safe_globals', id)([argparse.Namespace, n.dtype, "
      "n.float64(0).__reduce__()[0], *(type(n.dtype(t)) for t in ('f4', 'f8', 'i4', 'i8'))]); "
      "[d.update(torch.load(f, map_location='cpu', weights_only=True)) for f in files]; "
      "d = max((v for v in [*map(d.get, ('state_dict', 'model_state_dict', 'model', 'module', "
      "'teacher')), d, *d.values()] if isinstance(v, dict)), "
      "key=lambda v: sum(map(torch.is_tensor, v.values()))); "
      "d = {k.removeprefix('module.').removeprefix('model.'): v.detach().clone().contiguous() "
      "for k, v in d.items() if torch.is_tensor(v)}; "
      "s.save_file(d or sys.exit('it holds no dictionary of tensors'), out, "
      "metadata={'format': 'pt'})";
  std::string command = fmt::format("python -c \"{}\"", kProgram);
  for (const std::string& pickle : pickles) command += " " + ShellWord(pickle);
  return command + " " + ShellWord(out);
}

[[noreturn]] void Refuse(const std::string& path, const Kind& kind) {
  if (kind.pickle)
    Fail(
        "{}: {}, which is not read because it can run code; hint: convert it where you trust it: "
        "{}",
        path, kind.what, Conversion({path}, ConvertedName(path)));
  Fail("{}: {}; hint: {}", path, kind.what, kind.hint);
}

std::string FirstBytes(const fs::path& path) {
  std::string bytes(1 << 16, '\0');
  std::ifstream file(path, std::ios::binary);
  file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  bytes.resize(file.gcount());
  return bytes;
}

struct Found {
  std::string name;
  Kind kind;
};

// Files of tensors in a directory, ours or foreign, by name.
std::vector<Found> FilesIn(const std::string& directory) {
  constexpr size_t kMost = 1000;
  std::vector<Found> found;
  for (const auto& [name, kind, link] : ListIfReadable(directory, kMost)) {
    if (kind != DirectoryEntry::Kind::kFile) continue;
    if (EndsWithAny(name, {".json", ".txt", ".md", ".py"}) || name.starts_with('.')) continue;
    if (name.ends_with(".safetensors"))
      found.push_back({name, {"safetensors", ""}});
    else if (Kind of = KindOf(name, FirstBytes(fs::path(directory) / name)); !of.what.empty())
      found.push_back({name, of});
  }
  return found;
}

}  // namespace

bool IsZipOfArrays(std::span<const std::byte> bytes) {
  const std::string_view view = View(bytes);
  return view.starts_with("PK\x03\x04"sv) && ZipKind(view).what == kArrays;
}

void RefuseForeignFile(const std::string& path, std::span<const std::byte> bytes) {
  if (const Kind kind = KindOf(path, View(bytes)); !kind.what.empty()) Refuse(path, kind);
}

void RefuseForeignText(const std::string& path, std::string_view text) {
  if (const Kind kind = TextKind(text); !kind.what.empty()) Refuse(path, kind);
}

void RefuseForeignPrefix(const std::string& path) {
  std::error_code ignored;
  if (!fs::exists(path, ignored) && fs::exists(path + ".index", ignored))
    Fail("{}: a TensorFlow checkpoint; hint: {}", path, kOtherFile);
}

void RefuseDirectory(const std::string& directory, const std::vector<std::string>& expected) {
  constexpr size_t kShown = 8;
  const auto in = [&](const std::string& name) { return (fs::path(directory) / name).string(); };
  const std::vector<Found> found = FilesIn(directory);
  std::string list, hint;
  std::vector<std::string> pickles;
  for (size_t i = 0; i < found.size(); ++i) {
    const auto& [name, kind] = found[i];
    if (i < kShown) list += fmt::format("{}{} ({})", i ? ", " : "", name, kind.what);
    if (i == kShown) list += ", ...";
    if (kind.pickle) pickles.push_back(in(name));
    if (kind.what == "safetensors" && hint.empty() && expected[0] == "model.safetensors")
      hint = "name the file: " + in(name);
    if (!kind.hint.empty() && hint.empty()) hint = kind.hint;
  }
  const std::string message =
      fmt::format("{}: expected {} in it, found {}", directory, fmt::join(expected, " or "),
                  list.empty() ? "no file of tensors" : list);
  if (pickles.empty()) Fail("{}{}", message, hint.empty() ? "" : "; hint: " + hint);
  // There may be an optimizer's file beside that of the model; shards of one model are numbered.
  const auto of_shard = [](const std::string& path) { return path.find("-of-") != path.npos; };
  const auto of_model = [](const std::string& path) {
    return fs::path(path).filename().string().find("model") != std::string::npos;
  };
  std::ranges::stable_partition(pickles, of_model);
  if (of_shard(pickles[0]))
    std::erase_if(pickles, [&](const std::string& path) { return !of_shard(path); });
  else
    pickles.resize(1);
  Fail("{}; a pickle is not read because it can run code; hint: convert it where you trust it: {}",
       message, Conversion(pickles, in(expected[0])));
}

}  // namespace graft
