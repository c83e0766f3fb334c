// The weights, which are outside the graph: f32 buffers by name, and u8 ones for what is quantised,
// which never change. A store is a value: a copy of it shares its buffers, and the first write
// through either copy unshares that one entry.
//
// Only the holder of a pointer from Allocate or Mutable may write. Such a pointer stays valid
// (also when the store is moved or the entry renamed) until its entry is replaced or erased, and
// what is written through it is never seen by another store: copying a store copies the entries
// that have such a pointer at once (the trainable few) and shares the others (the frozen many).
// Freeze() declares all these pointers dead, which makes every entry shareable again.
// A pointer from data() is dead after the entry's next Mutable, too.
//
// Not thread safe, but different threads may use different copies.
#pragma once
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/tensor_type.h"

namespace graft {

class ParamStore {
 public:
  struct Entry {
    DType dtype = DType::kF32;
    Extents shape;
    const void* data = nullptr;  // 64-byte aligned if owned; in a view only as its elements want
    TensorType type() const { return {dtype, ToShape(shape)}; }
    std::span<const std::byte> bytes() const {
      return {static_cast<const std::byte*>(data), size() * ByteSize(dtype)};
    }
    // The values in the entry's own type; to ask for the other type is a bug.
    std::span<const float> values() const { return {As<float>(DType::kF32), size()}; }
    std::span<const uint8_t> u8() const { return {As<uint8_t>(DType::kU8), size()}; }

   private:
    friend class ParamStore;
    struct Buffer;
    size_t size() const { return static_cast<size_t>(shape.size()); }
    template <class T>
    const T* As(DType expected) const {
      GRAFT_CHECK(dtype == expected, "the parameter is {}", ToString(type()));
      return static_cast<const T*>(data);
    }
    std::shared_ptr<const Buffer> buffer;
    bool written = false;  // a pointer to write through is in somebody's hands
  };
  struct Bytes {
    size_t owned = 0;   // on the heap; a buffer that entries share counts once
    size_t viewed = 0;  // memory of others, mostly read-only mappings; the kernel may drop it
  };

  ParamStore() = default;
  ParamStore(const ParamStore& other);
  ParamStore(ParamStore&& other) noexcept = default;
  ParamStore& operator=(const ParamStore& other);
  ParamStore& operator=(ParamStore&& other) noexcept = default;

  // These create the entry or replace the one of this name.
  void Set(std::string name, const Extents& shape, std::span<const float> values);
  float* Allocate(std::string name, const Extents& shape);  // filled with zeros
  // `data` (4-byte aligned, read only) must live as long as `owner`, which may be the mapping of a
  // file.
  void SetView(std::string name, const Extents& shape, std::shared_ptr<const void> owner,
               const float* data);
  void SetU8(std::string name, const Extents& shape, std::span<const uint8_t> values);
  void SetViewU8(std::string name, const Extents& shape, std::shared_ptr<const void> owner,
                 const uint8_t* data);
  // Takes the entry `source` of another store, shared and not copied.
  void SetShared(std::string name, const ParamStore& store, std::string_view source);

  // Get throws Error with the nearest names for a name that is missing; Find returns null.
  const Entry& Get(std::string_view name) const;
  const Entry* Find(std::string_view name) const;
  bool Has(std::string_view name) const { return Find(name) != nullptr; }
  const Extents& shape(std::string_view name) const { return Get(name).shape; }
  const float* data(std::string_view name) const { return values(name).data(); }
  std::span<const float> values(std::string_view name) const { return Get(name).values(); }

  // Gives the entry a buffer of its own, if it is shared or read-only, and returns it for writing.
  // REQUIRES: it is f32.
  float* Mutable(std::string_view name);
  // Promises that nobody writes any more through the pointers handed out so far, to all entries
  // or to one.
  void Freeze();
  void Freeze(std::string_view name);

  void Erase(std::string_view name);

  // They are sorted by name, so that equal stores enumerate equally whatever their history.
  const std::map<std::string, Entry, std::less<>>& entries() const { return entries_; }
  std::vector<std::string> names() const;
  size_t size() const { return entries_.size(); }
  Bytes bytes() const;

 private:
  Entry& GetEntry(std::string_view name);
  void SetCopy(std::string name, DType dtype, const Extents& shape, const void* data, size_t count);
  void SetViewAs(std::string name, DType dtype, const Extents& shape,
                 std::shared_ptr<const void> owner, const void* data);

  std::map<std::string, Entry, std::less<>> entries_;
};

// The values, of either type, for arithmetic in double.
std::vector<double> ToDoubles(const ParamStore::Entry& entry);

}  // namespace graft
