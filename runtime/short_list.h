// A list of plain values of which there are mostly few: up to N of them lie in the list itself.
#pragma once
#include <algorithm>
#include <array>
#include <initializer_list>
#include <span>
#include <type_traits>
#include <vector>

namespace graft {

// What a graph has by the thousand, and copies and frees as often: the inputs of a node, the users
// of a value. As std::vector each of them is an allocation.
template <class T, size_t N>
class ShortList {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  using value_type = T;
  ShortList() = default;
  ShortList(std::initializer_list<T> items) : ShortList(std::span<const T>(items)) {}
  ShortList(const std::vector<T>& items) : ShortList(std::span<const T>(items)) {}
  ShortList(std::span<const T> items) {
    if (items.size() > N)
      many_.assign(items.begin(), items.end());
    else
      size_ = static_cast<size_t>(std::ranges::copy(items, few_.begin()).out - few_.begin());
  }

  size_t size() const { return many_.empty() ? size_ : many_.size(); }
  bool empty() const { return size() == 0; }
  T* begin() { return many_.empty() ? few_.data() : many_.data(); }
  T* end() { return begin() + size(); }
  const T* begin() const { return many_.empty() ? few_.data() : many_.data(); }
  const T* end() const { return begin() + size(); }
  T& operator[](size_t i) { return begin()[i]; }
  const T& operator[](size_t i) const { return begin()[i]; }
  T& back() { return end()[-1]; }
  const T& back() const { return end()[-1]; }
  bool operator==(const ShortList& other) const { return std::ranges::equal(*this, other); }

  void push_back(T item) {
    if (many_.empty() && size_ < N) {
      few_[size_++] = item;
      return;
    }
    if (many_.empty()) many_.assign(few_.begin(), few_.end());
    many_.push_back(item);
  }
  void insert(const T* at, T item) {
    const auto place = at - begin();
    push_back(item);
    std::rotate(begin() + place, end() - 1, end());
  }
  void erase(const T* at) {
    if (many_.size() == N + 1) {  // back into the list itself
      *this = ShortList(std::span<const T>(many_), at);
      return;
    }
    if (!many_.empty()) {
      many_.erase(many_.begin() + (at - many_.data()));
      return;
    }
    std::copy(at + 1, static_cast<const T*>(few_.data() + size_), few_.data() + (at - few_.data()));
    --size_;
  }
  void pop_back() { erase(end() - 1); }
  void clear() { *this = {}; }

 private:
  ShortList(std::span<const T> items, const T* without) {
    for (const T& item : items)
      if (&item != without) push_back(item);
  }
  std::array<T, N> few_{};
  size_t size_ = 0;      // of few_
  std::vector<T> many_;  // all, where they are more than N
};

}  // namespace graft
