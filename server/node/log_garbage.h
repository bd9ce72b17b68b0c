// Which log segments a node lets go of: one rule for whoever does it and whoever tells of it.
#pragma once

#include <cstdint>
#include <span>

#include "proto/service.pb.h"
#include "storage/kv/state_machine.h"
#include "storage/log/log_store.h"

namespace ballast::server {

// What becomes of a segment that the log has forgotten.
enum class HomeFate : uint8_t {
  kStays,
  kRetires,  // no block lies in it
  kEmpties,  // less than half of it is live: its blocks move into the database
};

using Uses = std::span<const storage::StateMachine::SegmentUse>;

HomeFate fate_of(const storage::LogStore::Home& home, Uses used);

// Of homes, and of what lies in all segments. REQUIRES: counted later than the homes were asked
// for: a segment that becomes one in between may hold blocks that were not counted.
pb::LogGarbage log_garbage(std::span<const storage::LogStore::Home> homes, Uses used);

}  // namespace ballast::server
