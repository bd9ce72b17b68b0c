// Integers that cannot be mixed: a Term is not an Index, and neither is made from an int by chance.
#pragma once

#include <fmt/format.h>

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace ballast {

template <class Tag>
class StrongInt {
 public:
  constexpr StrongInt() = default;
  constexpr explicit StrongInt(uint64_t value) : value_(value) {}

  constexpr uint64_t value() const { return value_; }

  constexpr auto operator<=>(const StrongInt&) const = default;

  // Steps and distances are plain numbers: index + 1, last - first.
  constexpr StrongInt operator+(uint64_t steps) const { return StrongInt(value_ + steps); }
  constexpr StrongInt operator-(uint64_t steps) const { return StrongInt(value_ - steps); }
  constexpr uint64_t operator-(StrongInt other) const { return value_ - other.value_; }
  constexpr StrongInt& operator++() {
    ++value_;
    return *this;
  }
  constexpr explicit operator bool() const { return value_ != 0; }

 private:
  uint64_t value_ = 0;
};

using Term = StrongInt<struct TermTag>;
using Index = StrongInt<struct IndexTag>;
using NodeId = StrongInt<struct NodeIdTag>;    // 0 is no node
using GroupId = StrongInt<struct GroupIdTag>;  // the first releases run group 1 alone

}  // namespace ballast

template <class Tag>
struct std::hash<ballast::StrongInt<Tag>> {
  size_t operator()(ballast::StrongInt<Tag> id) const { return std::hash<uint64_t>{}(id.value()); }
};

template <class Tag>
struct fmt::formatter<ballast::StrongInt<Tag>> : fmt::formatter<uint64_t> {
  auto format(ballast::StrongInt<Tag> id, fmt::format_context& context) const {
    return fmt::formatter<uint64_t>::format(id.value(), context);
  }
};
