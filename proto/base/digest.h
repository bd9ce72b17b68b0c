// SHA-256 digests (FIPS 180-4): the identity of a block.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "proto/base/result.h"

namespace ballast {

struct Digest {
  static constexpr size_t kSize = 32;
  std::array<std::byte, kSize> bytes{};

  auto operator<=>(const Digest&) const = default;

  std::string_view text() const { return {reinterpret_cast<const char*>(bytes.data()), kSize}; }
  std::string hex() const;
  // The first 12 hex digits, for messages.
  std::string brief() const { return hex().substr(0, 12); }

  // Error kCorrupt if `raw` is not 32 bytes long.
  static Result<Digest> from_raw(std::string_view raw);
};

// The digest of `bytes`. Thread-safe.
Digest sha256(std::span<const std::byte> bytes);

// The digest of what update() was given, in order. Not thread-safe. Move-only.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;

  void update(std::span<const std::byte> bytes);
  // Ends the computation. REQUIRES: called once.
  Digest finish();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

}  // namespace ballast

template <>
struct std::hash<ballast::Digest> {
  size_t operator()(const ballast::Digest& digest) const {
    size_t head = 0;  // already uniform
    std::memcpy(&head, digest.bytes.data(), sizeof head);
    return head;
  }
};
