// Random UUIDs (RFC 9562 version 4): identities of clusters, nodes, disks, sessions and uploads.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "proto/base/result.h"

namespace ballast {

struct Uuid {
  std::array<uint8_t, 16> bytes{};

  auto operator<=>(const Uuid&) const = default;
  bool empty() const { return *this == Uuid{}; }

  // "9b2f…": 36 lower-case characters
  std::string to_string() const;
  // The 16 bytes as they stand in messages.
  std::string raw() const { return {bytes.begin(), bytes.end()}; }

  static Result<Uuid> parse(std::string_view text);
  static Result<Uuid> from_raw(std::string_view raw);
  // From the kernel's random source.
  static Uuid random();
};

}  // namespace ballast
