// What the replicated log is made of: plain values, shared by the Raft core, the log and the wire.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "proto/base/bytes.h"
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

// An entry as the core sees it: where it stands and how big it is. The core never owns the bytes.
struct EntryMeta {
  Term term;
  Index index;
  EntryKind kind = EntryKind::kNoop;
  uint32_t header_bytes = 0;
  uint32_t payload_bytes = 0;

  uint64_t bytes() const { return uint64_t{header_bytes} + payload_bytes; }
  auto operator<=>(const EntryMeta&) const = default;
};

// An entry with its bytes. `header` is the serialized description (storage.proto), small;
// `payload` is a block's bytes or empty.
struct Entry {
  Term term;
  Index index;
  EntryKind kind = EntryKind::kNoop;
  Bytes header;
  Bytes payload;

  EntryMeta meta() const {
    return {term, index, kind, static_cast<uint32_t>(header.size()),
            static_cast<uint32_t>(payload.size())};
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
