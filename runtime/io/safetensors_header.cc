#include "runtime/io/safetensors_header.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "runtime/error.h"

namespace graft {
namespace {

using Json = nlohmann::json;

// Reads the header without building a tree, so that memory stays near the size of the header:
//   { "__metadata__": {text: text, ...}, name: {"dtype": "F32", "shape": [..],
//     "data_offsets": [begin, end]}, ... }
// Other members of a tensor are skipped, as the official reader does.
class HeaderSax final : public nlohmann::json_sax<Json> {
 public:
  HeaderSax(const std::string& path, SafetensorsHeader* out) : path_(path), out_(*out) {}

  bool start_object(size_t) override {
    if (Skip(+1)) return true;
    if (place_ == Place::kStart) return place_ = Place::kFile, true;
    if (place_ == Place::kFile) {
      place_ = name_ == "__metadata__" ? Place::kMetadata : Place::kTensor;
      if (place_ == Place::kTensor) out_.tensors.emplace_back().name = name_;
      fields_.clear();
      return true;
    }
    Unexpected("an object");
  }

  bool key(std::string& key) override {
    if (skipping_ > 0) return true;
    const bool in_file = place_ == Place::kFile;
    if (in_file) name_ = key;
    if (!(in_file                      ? names_
          : place_ == Place::kMetadata ? metadata_keys_
                                       : fields_)
             .insert(key)
             .second)
      Fail("{}: duplicate key '{}' in the header{}", path_, key, Inside());
    field_ = key;
    return true;
  }

  bool end_object() override {
    if (Skip(-1)) return true;
    if (place_ == Place::kTensor) {
      for (const char* field : {"dtype", "shape", "data_offsets"})
        if (!fields_.contains(field)) Fail("{}: no '{}' in the header{}", path_, field, Inside());
      if (offsets_ != 2)
        Fail("{}: tensor '{}': expected 2 data_offsets, found {}", path_, name_, offsets_);
    }
    offsets_ = 0;
    place_ = place_ == Place::kFile ? Place::kStart : Place::kFile;
    return true;
  }

  bool start_array(size_t) override {
    if (Skip(+1)) return true;
    if (place_ == Place::kTensor && field_ == "shape") return place_ = Place::kShape, true;
    if (place_ == Place::kTensor && field_ == "data_offsets") return place_ = Place::kOffsets, true;
    Unexpected("an array");
  }

  bool end_array() override {
    if (!Skip(-1)) place_ = Place::kTensor;
    return true;
  }

  bool string(std::string& value) override {
    if (SkipScalar()) return true;
    if (place_ == Place::kMetadata) return out_.metadata.emplace(field_, value), true;
    if (place_ != Place::kTensor || field_ != "dtype") Unexpected("a string");
    const auto dtype = ParseFileDType(value);
    if (!dtype) Fail("{}: tensor '{}': unknown dtype '{}'", path_, name_, value);
    out_.tensors.back().dtype = *dtype;
    return true;
  }

  bool number_unsigned(uint64_t value) override {
    if (SkipScalar()) return true;
    if (place_ != Place::kShape && place_ != Place::kOffsets) Unexpected("a number");
    if (value > uint64_t{INT64_MAX}) Unexpected("a number that is too large");
    FileTensor& tensor = out_.tensors.back();
    if (place_ == Place::kShape)
      tensor.shape.push_back(static_cast<int64_t>(value));
    else if (++offsets_ <= 2)
      (offsets_ == 1 ? tensor.begin : tensor.end) = value;
    return true;
  }

  bool number_integer(int64_t) override { return SkipScalar() || Unexpected("a negative number"); }
  bool number_float(double, const std::string&) override {
    return SkipScalar() || Unexpected("a number that is no integer or too large");
  }
  bool null() override { return SkipScalar() || Unexpected("null"); }
  bool boolean(bool) override { return SkipScalar() || Unexpected("true or false"); }
  bool binary(Json::binary_t&) override { Unexpected("binary data"); }
  bool parse_error(size_t position, const std::string&, const Json::exception&) override {
    Fail("{}: the header is not JSON in UTF-8, at its byte {}", path_, position);
  }

 private:
  enum class Place { kStart, kFile, kMetadata, kTensor, kShape, kOffsets };

  bool UnknownField() const {
    return place_ == Place::kTensor && field_ != "dtype" && field_ != "shape" &&
           field_ != "data_offsets";
  }
  bool SkipScalar() const { return skipping_ > 0 || UnknownField(); }
  // Counts the open brackets of a skipped value.
  bool Skip(int brackets) {
    if (skipping_ == 0 && (brackets < 0 || !UnknownField())) return false;
    skipping_ += brackets;
    if (skipping_ > kMaxDepth)
      Fail("{}: header nested deeper than {}{}", path_, kMaxDepth, Inside());
    return true;
  }
  std::string Inside() const {
    return place_ == Place::kStart || place_ == Place::kFile ? "" : " of '" + name_ + "'";
  }
  [[noreturn]] bool Unexpected(const char* what) const {
    const std::string field = place_ == Place::kStart ? "" : " at '" + field_ + "'";
    Fail("{}: unexpected {} in the header{}{}", path_, what, field, Inside());
  }

  static constexpr int kMaxDepth = 64;

  const std::string& path_;
  SafetensorsHeader& out_;
  Place place_ = Place::kStart;
  int skipping_ = 0;
  int offsets_ = 0;
  std::string name_, field_;
  std::set<std::string> names_, fields_, metadata_keys_;
};

void CheckLayout(const std::vector<FileTensor>& tensors, uint64_t data_bytes,
                 const std::string& path) {
  uint64_t position = 0;
  for (const FileTensor& t : tensors) {
    if (t.end < t.begin)
      Fail("{}: tensor '{}': data_offsets [{}, {}] are reversed", path, t.name, t.begin, t.end);
    if (t.begin != position)
      Fail("{}: tensor '{}': expected its data at offset {}, found {}: {}", path, t.name, position,
           t.begin, t.begin < position ? "it overlaps the one before" : "a hole is before it");
    const int64_t bytes = TensorBytes(t.dtype, t.shape);
    if (bytes < 0 || t.end - t.begin != static_cast<uint64_t>(bytes))
      Fail("{}: tensor '{}': {} of shape [{}] has {} bytes, but data_offsets span {}", path, t.name,
           ToString(t.dtype), fmt::join(t.shape, ","),
           bytes < 0 ? "an impossible number of" : std::to_string(bytes), t.end - t.begin);
    position = t.end;
  }
  if (position != data_bytes)
    Fail("{}: expected {} bytes of data after the header, found {}; the file is {}", path, position,
         data_bytes, data_bytes < position ? "cut short" : "longer than its tensors");
}

}  // namespace

SafetensorsHeader ParseSafetensorsHeader(std::string_view json, uint64_t data_bytes,
                                         const std::string& path) {
  if (!json.starts_with('{')) Fail("{}: expected the header to begin with '{{'", path);
  // nlohmann takes a NUL for the end of the text and would not look at what follows it.
  if (json.find('\0') != std::string_view::npos) Fail("{}: NUL byte in the header", path);
  SafetensorsHeader header;
  HeaderSax sax(path, &header);
  const bool parsed = Json::sax_parse(json, &sax);
  GRAFT_CHECK(parsed);
  std::sort(header.tensors.begin(), header.tensors.end(),
            [](const FileTensor& a, const FileTensor& b) {
              return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
            });
  CheckLayout(header.tensors, data_bytes, path);
  return header;
}

}  // namespace graft
