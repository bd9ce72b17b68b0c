#include "storage/kv/row_keys.h"

#include "proto/base/check.h"

namespace ballast::storage {
namespace {

std::string with_name(RowKind kind, std::string_view name) {
  std::string key = kind_key(kind);
  key.append(name);
  return key;
}

}  // namespace

std::string kind_key(RowKind kind) { return std::string(1, static_cast<char>(kind)); }

std::string big_endian(uint64_t number) {
  std::string bytes(8, '\0');
  for (size_t i = 0; i < 8; ++i) bytes[i] = static_cast<char>(number >> (56 - 8 * i) & 0xFF);
  return bytes;
}

uint64_t number_behind(std::string_view key, size_t prefix_bytes) {
  BALLAST_CHECK(key.size() >= prefix_bytes + 8, "a key of {} bytes", key.size());
  uint64_t number = 0;
  for (size_t i = 0; i < 8; ++i)
    number = number << 8 | static_cast<unsigned char>(key[prefix_bytes + i]);
  return number;
}

std::string key_key(std::string_view key_or_prefix) {
  return with_name(RowKind::kKey, key_or_prefix);
}
std::string model_key(std::string_view model_or_prefix) {
  return with_name(RowKind::kModel, model_or_prefix);
}
std::string version_prefix(std::string_view model) {
  return with_name(RowKind::kVersion, model) + '\0';
}
std::string version_key(std::string_view model, uint64_t version) {
  return version_prefix(model) + big_endian(version);
}
std::string alias_prefix(std::string_view model) {
  return with_name(RowKind::kAlias, model) + '\0';
}
std::string alias_key(std::string_view model, std::string_view alias) {
  return alias_prefix(model).append(alias);
}
std::string session_key(std::string_view id) { return with_name(RowKind::kSession, id); }
std::string block_key(const Digest& digest) { return with_name(RowKind::kBlock, digest.text()); }
std::string bytes_key(const Digest& digest) { return with_name(RowKind::kBytes, digest.text()); }
std::string place_key(const Digest& digest) { return with_name(RowKind::kPlace, digest.text()); }
std::string segment_use_key(uint64_t sequence) {
  return kind_key(RowKind::kSegmentUse) + big_endian(sequence);
}

std::string time_key(RowKind kind, uint64_t time_ms) {
  return kind_key(kind) + big_endian(time_ms);
}
std::string lease_key(uint64_t until_ms, const Digest& digest) {
  return time_key(RowKind::kLease, until_ms).append(digest.text());
}
std::string session_time_key(uint64_t time_ms, std::string_view id) {
  return time_key(RowKind::kSessionTime, time_ms).append(id);
}

bool is_row_key(std::string_view key) {
  constexpr size_t kTime = sizeof(uint64_t), kSession = 16;
  if (key.empty()) return false;
  const std::string_view rest = key.substr(1);
  const size_t zero = rest.find('\0');
  const bool named = zero != 0 && zero != rest.npos;
  switch (static_cast<RowKind>(static_cast<unsigned char>(key[0]))) {
    case RowKind::kApplied:
    case RowKind::kSessions:
    case RowKind::kConfiguration:
    case RowKind::kInstalled: return rest.empty();
    case RowKind::kKey:
    case RowKind::kModel: return !rest.empty();
    case RowKind::kVersion: return named && rest.size() == zero + 1 + sizeof(uint64_t);
    case RowKind::kAlias: return named && rest.size() > zero + 1;
    case RowKind::kSession: return rest.size() == kSession;
    case RowKind::kSessionTime: return rest.size() == kTime + kSession;
    case RowKind::kBlock:
    case RowKind::kBytes:
    case RowKind::kPlace:
    case RowKind::kArrived: return rest.size() == Digest::kSize;
    case RowKind::kLease: return rest.size() == kTime + Digest::kSize;
    case RowKind::kSegmentUse: return rest.size() == sizeof(uint64_t);
  }
  return true;
}

std::string prefix_end(std::string prefix) {
  while (!prefix.empty() && prefix.back() == '\xFF') prefix.pop_back();
  BALLAST_CHECK(!prefix.empty());
  prefix.back() = static_cast<char>(static_cast<unsigned char>(prefix.back()) + 1);
  return prefix;
}

}  // namespace ballast::storage
