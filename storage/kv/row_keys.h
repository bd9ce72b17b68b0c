// The keys of rows (docs/formats/rows.md): a byte for the kind, names, big-endian numbers, so that
// RocksDB's order is the order of lists. Names hold no control characters, so a zero byte ends one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "proto/base/digest.h"

namespace ballast::storage {

// Numbers on disk: never reused.
enum class RowKind : uint8_t {
  kApplied = 0x01,        // pb::AppliedRow
  kSessions = 0x02,       // number of sessions
  kKey = 0x03,            // name -> pb::KeyRow
  kModel = 0x04,          // name -> pb::ModelRow
  kVersion = 0x05,        // model, 0, number -> pb::VersionRow
  kAlias = 0x06,          // model, 0, alias -> pb::AliasRow
  kSession = 0x07,        // id -> pb::SessionRow
  kSessionTime = 0x08,    // time, id -> nothing: the sessions in the order of their last use
  kBlock = 0x09,          // digest -> pb::BlockRow
  kLease = 0x0A,          // time, digest -> nothing: the blocks without references, by lease end
  kConfiguration = 0x0B,  // pb::ConfigurationRow
  // From here on of this node alone, so behind all that replicas share. A block has one of the
  // first two.
  kBytes = 0x80,       // digest -> the block's bytes
  kPlace = 0x81,       // digest -> pb::PlaceRow
  kSegmentUse = 0x82,  // sequence of a log segment -> bytes and number of blocks that lie in it
  kInstalled = 0x83,   // pb::InstalledRow
  kArrived = 0x84,     // digest -> nothing: its bytes came with a snapshot that is not whole yet
};
constexpr RowKind kFirstOfThisNode = RowKind::kBytes;

std::string kind_key(RowKind kind);  // the key of single rows, and the prefix of the others
std::string key_key(std::string_view key_or_prefix);
std::string model_key(std::string_view model_or_prefix);
std::string version_prefix(std::string_view model);
std::string version_key(std::string_view model, uint64_t version);
std::string alias_prefix(std::string_view model);
std::string alias_key(std::string_view model, std::string_view alias);
std::string session_key(std::string_view id);
std::string block_key(const Digest& digest);
std::string bytes_key(const Digest& digest);
std::string place_key(const Digest& digest);
std::string segment_use_key(uint64_t sequence);
std::string lease_key(uint64_t until_ms, const Digest& digest);
std::string session_time_key(uint64_t time_ms, std::string_view id);
// Where the lease or session-time rows of this time begin.
std::string time_key(RowKind kind, uint64_t time_ms);

// Whether a key is one that the functions above make. Of kinds that are not known, which a later
// format may bring, all are.
bool is_row_key(std::string_view key);

// The first key behind all that begin with `prefix`. REQUIRES: not empty and not all 0xFF.
std::string prefix_end(std::string prefix);

// What stands behind a prefix: the number of a version key, or the time of a lease or session-time
// key. REQUIRES: 8 bytes follow.
uint64_t number_behind(std::string_view key, size_t prefix_bytes);
std::string big_endian(uint64_t number);

}  // namespace ballast::storage
