#include "proto/base/uuid.h"

#include <sys/random.h>

#include <algorithm>

#include "proto/base/check.h"

namespace ballast {
namespace {

constexpr bool dash_before(size_t byte) {
  return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

std::string Uuid::to_string() const {
  std::string text;
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (dash_before(i)) text.push_back('-');
    text += fmt::format("{:02x}", bytes[i]);
  }
  return text;
}

Result<Uuid> Uuid::parse(std::string_view text) {
  const auto bad = [&] {
    return fail(Errc::kInvalidArgument,
                "'{}' is not a UUID; write it as 8-4-4-4-12 hexadecimal digits", text);
  };
  if (text.size() != 36) return bad();
  Uuid uuid;
  size_t at = 0;
  for (size_t i = 0; i < uuid.bytes.size(); ++i) {
    if (dash_before(i) && text[at++] != '-') return bad();
    const int high = hex_value(text[at++]);
    const int low = hex_value(text[at++]);
    if (high < 0 || low < 0) return bad();
    uuid.bytes[i] = static_cast<uint8_t>(high * 16 + low);
  }
  return uuid;
}

Result<Uuid> Uuid::from_raw(std::string_view raw) {
  Uuid uuid;
  if (raw.size() != uuid.bytes.size())
    return fail(Errc::kCorrupt, "a UUID has 16 bytes, this has {}", raw.size());
  std::copy(raw.begin(), raw.end(), uuid.bytes.begin());
  return uuid;
}

Uuid Uuid::random() {
  Uuid uuid;
  const ssize_t got = getrandom(uuid.bytes.data(), uuid.bytes.size(), 0);
  BALLAST_CHECK(got == static_cast<ssize_t>(uuid.bytes.size()), "getrandom returned {}", got);
  uuid.bytes[6] = static_cast<uint8_t>((uuid.bytes[6] & 0x0F) | 0x40);
  uuid.bytes[8] = static_cast<uint8_t>((uuid.bytes[8] & 0x3F) | 0x80);
  return uuid;
}

}  // namespace ballast
