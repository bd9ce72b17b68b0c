// Writing and reading the fields of a chunk.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace ballast::quant {

inline void append_u8(std::vector<std::byte>& out, size_t value) {
  out.push_back(static_cast<std::byte>(value));
}

inline void append_u32(std::vector<std::byte>& out, size_t value) {
  for (int shift = 0; shift < 32; shift += 8) append_u8(out, value >> shift & 255);
}

inline void append_bytes(std::vector<std::byte>& out, std::span<const uint8_t> bytes) {
  const auto raw = std::as_bytes(bytes);
  out.insert(out.end(), raw.begin(), raw.end());
}

// Once a read was too long, failed() is true and all that follow give zeros and nothing.
class ByteCursor {
 public:
  explicit ByteCursor(std::span<const std::byte> bytes) : rest_(bytes) {}

  std::span<const uint8_t> take(size_t count) {
    if (count > rest_.size()) failed_ = true;
    if (failed_) return {};
    const auto* begin = reinterpret_cast<const uint8_t*>(rest_.data());
    rest_ = rest_.subspan(count);
    return {begin, count};
  }
  uint8_t u8() {
    const auto byte = take(1);
    return byte.empty() ? 0 : byte[0];
  }
  uint32_t u32() {
    const auto bytes = take(4);
    uint32_t value = 0;
    if (!bytes.empty()) std::memcpy(&value, bytes.data(), sizeof value);
    return value;
  }
  std::span<const std::byte> rest() const { return rest_; }
  bool failed() const { return failed_; }

 private:
  std::span<const std::byte> rest_;
  bool failed_ = false;
};

}  // namespace ballast::quant
