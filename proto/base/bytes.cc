#include "proto/base/bytes.h"

#include <cstdint>
#include <cstdlib>
#include <new>

#include "proto/base/check.h"

namespace ballast {

MutableBytes::MutableBytes(size_t size) : size_(size) {
  if (size == 0) return;
  const size_t capacity = size < kDirectAlignment ? size : direct_round_up(size);
  const size_t alignment = size < kDirectAlignment ? alignof(std::max_align_t) : kDirectAlignment;
  auto* memory = static_cast<std::byte*>(::operator new(capacity, std::align_val_t(alignment)));
  std::memset(memory + size, 0, capacity - size);
  memory_ = std::shared_ptr<std::byte>(
      memory, [alignment](std::byte* p) { ::operator delete(p, std::align_val_t(alignment)); });
}

void MutableBytes::truncate(size_t size) {
  BALLAST_CHECK(size <= size_, "{} > {}", size, size_);
  if (size_ > size) std::memset(memory_.get() + size, 0, size_ - size);
  size_ = size;
}

Bytes Bytes::copy_of(std::span<const std::byte> bytes) {
  MutableBytes buffer(bytes.size());
  if (!bytes.empty()) std::memcpy(buffer.data(), bytes.data(), bytes.size());
  return Bytes(std::move(buffer));
}

Bytes Bytes::slice(size_t offset, size_t length) const {
  BALLAST_CHECK(offset <= size_ && length <= size_ - offset, "[{}, +{}) of {}", offset, length,
                size_);
  Bytes part;
  part.memory_ = memory_;
  part.data_ = data_ + offset;
  part.size_ = length;
  part.whole_ = whole_ && offset + length == size_;
  return part;
}

bool Bytes::direct() const {
  const bool aligned = reinterpret_cast<uintptr_t>(data_) % kDirectAlignment == 0;
  return aligned && size_ >= kDirectAlignment && (size_ % kDirectAlignment == 0 || whole_);
}

}  // namespace ballast
