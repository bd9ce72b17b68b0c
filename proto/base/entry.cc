#include "proto/base/entry.h"

namespace ballast {

std::string_view entry_kind_name(EntryKind kind) {
  switch (kind) {
    case EntryKind::kNoop: return "noop";
    case EntryKind::kConfiguration: return "configuration";
    case EntryKind::kBlock: return "block";
    case EntryKind::kCommit: return "commit";
  }
  return "unknown";
}

bool entry_kind_valid(uint8_t kind) {
  return kind >= static_cast<uint8_t>(EntryKind::kNoop) &&
         kind <= static_cast<uint8_t>(EntryKind::kCommit);
}

}  // namespace ballast
