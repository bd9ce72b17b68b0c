// Bytes: an immutable, reference-counted slice of memory.
//
// A payload is received once into one buffer and then shared by the log, the replication streams
// and the state machine; copying a Bytes copies a pointer. A buffer of 4 KiB or more starts at a
// 4 KiB boundary and its capacity is a multiple of 4 KiB with zeros behind its end, so that the
// log can hand it to O_DIRECT as it is.
//
// Thread-safe as a shared_ptr is: different Bytes of one buffer may be used on different threads.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace ballast {

inline constexpr size_t kDirectAlignment = 4096;

// The alignment rule above, as arithmetic: bytes rounded up to a multiple of 4 KiB.
constexpr size_t direct_round_up(size_t bytes) {
  return (bytes + kDirectAlignment - 1) / kDirectAlignment * kDirectAlignment;
}

inline std::span<const std::byte> as_byte_span(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}
inline std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// A buffer that is still being written; freeze() makes it a Bytes. Move-only.
class MutableBytes {
 public:
  MutableBytes() = default;
  // Contents are unspecified, but for the zeros between size and the rounded capacity.
  explicit MutableBytes(size_t size);

  size_t size() const { return size_; }
  std::byte* data() { return memory_.get(); }
  std::span<std::byte> span() { return {memory_.get(), size_}; }
  // Shrinks to the first `size` bytes and restores the zeros behind them. REQUIRES: size <= size().
  void truncate(size_t size);

 private:
  friend class Bytes;
  std::shared_ptr<std::byte> memory_;
  size_t size_ = 0;
};

class Bytes {
 public:
  Bytes() = default;
  // Takes the buffer over without a copy.
  explicit Bytes(MutableBytes&& buffer)
      : memory_(std::move(buffer.memory_)),
        data_(memory_.get()),
        size_(buffer.size_),
        whole_(true) {}

  static Bytes copy_of(std::span<const std::byte> bytes);
  static Bytes copy_of(std::string_view text) { return copy_of(as_byte_span(text)); }

  const std::byte* data() const { return data_; }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  std::span<const std::byte> span() const { return {data_, size_}; }
  std::string_view text() const { return as_text(span()); }

  // The bytes [offset, offset + length), sharing the buffer. REQUIRES: they lie inside.
  Bytes slice(size_t offset, size_t length) const;

  // True if data() is 4 KiB aligned and zeros fill the memory up to direct_round_up(size()), so
  // that direct_round_up(size()) bytes may be read from data().
  bool direct() const;

  friend bool operator==(const Bytes& a, const Bytes& b) { return a.text() == b.text(); }

 private:
  std::shared_ptr<const std::byte> memory_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  bool whole_ = false;  // ends where its buffer ends, so that zeros follow
};

}  // namespace ballast
