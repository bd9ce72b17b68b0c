// What the replicated log is made of: plain values, shared by the Raft core, the log and the wire.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "proto/base/bytes.h"
#include "proto/base/crc32c.h"
#include "proto/base/strong_int.h"

namespace ballast {

// Numbers on disk and on the wire: never reused.
enum class EntryKind : uint8_t {
  kNoop = 1,           // a new leader's first entry (thesis section 6.4)
  kConfiguration = 2,  // a membership change
  kBlock = 3,          // a block's digest, length and lease; its bytes are the payload
  kCommit = 4,         // operations that apply together
};

std::string_view entry_kind_name(EntryKind kind);
bool entry_kind_valid(uint8_t kind);

// An entry as the core sees it: where it stands, how big it is, and the checksum of its bytes. The
// core never owns the bytes.
struct EntryMeta {
  Term term;
  Index index;
  EntryKind kind = EntryKind::kNoop;
  uint32_t header_bytes = 0;
  uint32_t payload_bytes = 0;
  uint32_t checksum = 0;  // entry_checksum()

  uint64_t bytes() const { return uint64_t{header_bytes} + payload_bytes; }
  auto operator<=>(const EntryMeta&) const = default;
};

// The CRC32C of the payload followed by the header. The long part comes first, since its checksum
// is known by then and stands in the log's records as well.
inline uint32_t entry_checksum(std::span<const std::byte> header, uint32_t payload_crc) {
  return crc32c(header, payload_crc);
}

// An entry with its bytes. `header` is the serialized description (storage.proto), small;
// `payload` is a block's bytes or empty.
//
// The payload's checksum is computed once, here, and goes with the entry to the followers and the
// disks: bytes that change on their way, in memory too, are noticed. Hence nobody changes an entry.
struct Entry {
  Entry() = default;
  Entry(Term of_term, Index at, EntryKind of_kind, Bytes its_header = {}, Bytes its_payload = {})
      : term(of_term),
        index(at),
        kind(of_kind),
        header(std::move(its_header)),
        payload(std::move(its_payload)),
        payload_crc(crc32c(payload.span())) {}

  Term term;
  Index index;
  EntryKind kind = EntryKind::kNoop;
  Bytes header;
  Bytes payload;
  uint32_t payload_crc = 0;

  EntryMeta meta() const {
    return {term,
            index,
            kind,
            static_cast<uint32_t>(header.size()),
            static_cast<uint32_t>(payload.size()),
            entry_checksum(header.span(), payload_crc)};
  }
};

// A place in a log: an index, and the term of the entry there.
struct Position {
  Index index;
  Term term;

  auto operator<=>(const Position&) const = default;
};

// What must be durable before a node answers in a term (Raft figure 2, persistent state).
struct HardState {
  Term term;
  NodeId vote;  // 0: nobody in this term

  auto operator<=>(const HardState&) const = default;
};

}  // namespace ballast
