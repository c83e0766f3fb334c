// Attributes of a node: a small plain struct of bool, integer, double and string fields with
//   bool operator==(const T&) const = default;
//   static void Visit(auto& self, auto&& f) { f("ta", self.ta); f("tb", self.tb); }
// Comparing, printing and parsing come from Visit, so an operator writes its fields once.
#pragma once
#include <charconv>
#include <memory>
#include <type_traits>

#include "runtime/error.h"

namespace graft {

// Writes one field as text: "1", "0.5", "name". ParseField reads it back, doubles to the same bits.
template <class T>
std::string FieldText(const T& field) {
  if constexpr (std::is_same_v<T, bool>)
    return field ? "1" : "0";
  else
    return fmt::format("{}", field);
}

template <class T>
void ParseField(std::string_view name, std::string_view text, T& field) {
  if constexpr (std::is_same_v<T, std::string>) {
    field = text;
  } else {
    using Number = std::conditional_t<std::is_same_v<T, bool>, int, T>;
    Number number{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end != text.data() + text.size())
      Fail("'{}': expected a number, found '{}'", name, text);
    field = static_cast<T>(number);
  }
}

class Attrs {
 public:
  Attrs() = default;
  template <class T, class = std::enable_if_t<!std::is_same_v<std::decay_t<T>, Attrs>>>
  Attrs(T fields)
      : holder_(std::make_shared<Holder<T>>(std::move(fields))) {}  // implicit: {.ta = 1}

  template <class T>
  const T& As() const {
    const auto* holder = dynamic_cast<const Holder<T>*>(holder_.get());
    GRAFT_CHECK(holder != nullptr, "attributes of another operator");
    return holder->fields;
  }
  bool empty() const { return holder_ == nullptr; }
  bool operator==(const Attrs& other) const {
    return empty() || other.empty() ? empty() == other.empty() : holder_->Equal(*other.holder_);
  }
  std::string ToString() const { return empty() ? "" : holder_->Text(); }  // "ta=0 tb=1"
  // Returns a copy with one field set from text. Throws Error for an unknown field, with the
  // nearest name.
  Attrs With(std::string_view field, std::string_view text) const {
    if (empty()) Fail("unknown attribute '{}': this operator has none", field);
    Attrs copy;
    copy.holder_ = holder_->With(field, text);
    return copy;
  }

 private:
  struct Base {
    virtual ~Base() = default;
    virtual bool Equal(const Base& other) const = 0;
    virtual std::string Text() const = 0;
    virtual std::shared_ptr<const Base> With(std::string_view field,
                                             std::string_view text) const = 0;
  };
  template <class T>
  struct Holder final : Base {
    explicit Holder(T f) : fields(std::move(f)) {}
    bool Equal(const Base& other) const override {
      const auto* same = dynamic_cast<const Holder*>(&other);
      return same != nullptr && same->fields == fields;
    }
    std::string Text() const override {
      std::string text;
      T::Visit(fields, [&](std::string_view name, const auto& field) {
        text += fmt::format("{}{}={}", text.empty() ? "" : " ", name, FieldText(field));
      });
      return text;
    }
    std::shared_ptr<const Base> With(std::string_view field,
                                     std::string_view value) const override {
      T copy = fields;
      std::vector<std::string> names;
      bool found = false;
      T::Visit(copy, [&](std::string_view name, auto& target) {
        names.emplace_back(name);
        if (name == field) ParseField(name, value, target), found = true;
      });
      if (!found) Fail("unknown attribute '{}'{}", field, DidYouMean(field, names));
      return std::make_shared<Holder>(std::move(copy));
    }
    T fields;
  };
  std::shared_ptr<const Base> holder_;
};

}  // namespace graft
