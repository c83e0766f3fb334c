#include "runtime/params.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <new>
#include <set>

namespace graft {

// Memory of our own, or a view that keeps its owner alive.
struct ParamStore::Entry::Buffer {
  static constexpr std::align_val_t kAlignment{64};

  explicit Buffer(size_t size)
      : bytes(size),
        writable(static_cast<std::byte*>(::operator new(std::max<size_t>(size, 64), kAlignment))) {}
  explicit Buffer(std::shared_ptr<const void> o) : owner(std::move(o)) {}
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() {
    if (writable) ::operator delete(writable, kAlignment);
  }

  size_t bytes = 0;
  std::byte* writable = nullptr;  // null for a view
  std::shared_ptr<const void> owner;
};

namespace {

size_t CheckedBytes(std::string_view name, DType dtype, const Extents& shape) {
  int64_t bytes = static_cast<int64_t>(ByteSize(dtype));
  for (int i = 0; i < shape.rank; ++i)
    if (shape[i] < 0 || __builtin_mul_overflow(bytes, shape[i], &bytes))
      Fail("parameter '{}': {} is no shape that memory can hold", name, ToString(shape));
  return static_cast<size_t>(bytes);
}

}  // namespace

ParamStore::ParamStore(const ParamStore& other) : entries_(other.entries_) {
  for (auto& [name, entry] : entries_) {
    if (!entry.written) continue;
    const auto buffer =
        std::make_shared<Entry::Buffer>(CheckedBytes(name, entry.dtype, entry.shape));
    std::memcpy(buffer->writable, entry.data, buffer->bytes);
    entry.data = buffer->writable;
    entry.buffer = buffer;
    entry.written = false;
  }
}

ParamStore& ParamStore::operator=(const ParamStore& other) {
  if (this != &other) *this = ParamStore(other);
  return *this;
}

void ParamStore::SetCopy(std::string name, DType dtype, const Extents& shape, const void* data,
                         size_t count) {
  GRAFT_CHECK(static_cast<int64_t>(count) == shape.size(), "'{}' {}: {} values", name,
              ToString(shape), count);
  // `data` may be the old contents of this very entry, so the copy is made before the entry goes.
  const auto buffer = std::make_shared<Entry::Buffer>(CheckedBytes(name, dtype, shape));
  if (count > 0) std::memcpy(buffer->writable, data, buffer->bytes);
  Entry entry;
  entry.dtype = dtype;
  entry.shape = shape;
  entry.data = buffer->writable;
  entry.buffer = buffer;
  entries_.insert_or_assign(std::move(name), std::move(entry));
}

void ParamStore::Set(std::string name, const Extents& shape, std::span<const float> values) {
  SetCopy(std::move(name), DType::kF32, shape, values.data(), values.size());
}

void ParamStore::SetU8(std::string name, const Extents& shape, std::span<const uint8_t> values) {
  SetCopy(std::move(name), DType::kU8, shape, values.data(), values.size());
}

float* ParamStore::Allocate(std::string name, const Extents& shape) {
  const auto buffer = std::make_shared<Entry::Buffer>(CheckedBytes(name, DType::kF32, shape));
  std::memset(buffer->writable, 0, buffer->bytes);
  Entry entry;
  entry.shape = shape;
  entry.data = buffer->writable;
  entry.buffer = buffer;
  entry.written = true;
  entries_.insert_or_assign(std::move(name), std::move(entry));
  return reinterpret_cast<float*>(buffer->writable);
}

void ParamStore::SetView(std::string name, const Extents& shape, std::shared_ptr<const void> owner,
                         const float* data) {
  SetViewAs(std::move(name), DType::kF32, shape, std::move(owner), data);
}

void ParamStore::SetViewU8(std::string name, const Extents& shape,
                           std::shared_ptr<const void> owner, const uint8_t* data) {
  SetViewAs(std::move(name), DType::kU8, shape, std::move(owner), data);
}

void ParamStore::SetViewAs(std::string name, DType dtype, const Extents& shape,
                           std::shared_ptr<const void> owner, const void* data) {
  CheckedBytes(name, dtype, shape);
  GRAFT_CHECK(reinterpret_cast<uintptr_t>(data) % ByteSize(dtype) == 0, "'{}'", name);
  Entry entry;
  entry.dtype = dtype;
  entry.shape = shape;
  entry.data = data;
  entry.buffer = std::make_shared<Entry::Buffer>(std::move(owner));
  entries_.insert_or_assign(std::move(name), std::move(entry));
}

void ParamStore::SetShared(std::string name, const ParamStore& store, std::string_view source) {
  Entry entry = store.Get(source);
  if (entry.written) return Set(std::move(name), entry.shape, entry.values());  // so it is f32
  entries_.insert_or_assign(std::move(name), std::move(entry));
}

const ParamStore::Entry* ParamStore::Find(std::string_view name) const {
  const auto it = entries_.find(name);
  return it == entries_.end() ? nullptr : &it->second;
}

const ParamStore::Entry& ParamStore::Get(std::string_view name) const {
  if (const Entry* entry = Find(name)) return *entry;
  Fail("no parameter is named '{}'{}", name, DidYouMean(name, names()));
}

ParamStore::Entry& ParamStore::GetEntry(std::string_view name) {
  return const_cast<Entry&>(Get(name));
}

float* ParamStore::Mutable(std::string_view name) {
  Entry& entry = GetEntry(name);
  GRAFT_CHECK(entry.dtype == DType::kF32, "'{}' is {}", name, ToString(entry.type()));
  // A buffer that nobody else refers to can be taken over, even by an entry that covers only a part
  // of it.
  if (entry.buffer->writable && entry.buffer.use_count() == 1) {
    // Pairs with the release of the other thread that gave up the last other reference.
    std::atomic_thread_fence(std::memory_order_acquire);
  } else {
    const auto buffer =
        std::make_shared<Entry::Buffer>(CheckedBytes(name, entry.dtype, entry.shape));
    if (buffer->bytes) std::memcpy(buffer->writable, entry.data, buffer->bytes);
    entry.data = buffer->writable;
    entry.buffer = buffer;
  }
  entry.written = true;
  return static_cast<float*>(const_cast<void*>(entry.data));
}

void ParamStore::Freeze() {
  for (auto& [name, entry] : entries_) entry.written = false;
}

void ParamStore::Freeze(std::string_view name) { GetEntry(name).written = false; }

void ParamStore::Erase(std::string_view name) {
  Get(name);
  entries_.erase(entries_.find(name));
}

std::vector<std::string> ParamStore::names() const {
  std::vector<std::string> names;
  names.reserve(entries_.size());
  for (const auto& [name, entry] : entries_) names.push_back(name);
  return names;
}

ParamStore::Bytes ParamStore::bytes() const {
  Bytes sum;
  std::set<const Entry::Buffer*> seen;
  for (const auto& [name, entry] : entries_) {
    if (!entry.buffer->writable)
      sum.viewed += entry.bytes().size();
    else if (seen.insert(entry.buffer.get()).second)
      sum.owned += entry.buffer->bytes;
  }
  return sum;
}

std::vector<double> ToDoubles(const ParamStore::Entry& entry) {
  if (entry.dtype == DType::kU8) return {entry.u8().begin(), entry.u8().end()};
  return {entry.values().begin(), entry.values().end()};
}

}  // namespace graft
