#include "server/node/log_garbage.h"

#include <algorithm>

namespace ballast::server {
namespace {

using storage::LogStore;
using storage::StateMachine;

uint64_t live_bytes(const LogStore::Home& home, Uses used) {
  const auto use = std::ranges::find(used, home.segment, &StateMachine::SegmentUse::sequence);
  return use == used.end() ? 0 : use->bytes;
}

}  // namespace

HomeFate fate_of(const LogStore::Home& home, Uses used) {
  const auto use = std::ranges::find(used, home.segment, &StateMachine::SegmentUse::sequence);
  if (use == used.end()) return HomeFate::kRetires;
  return use->bytes * 2 < home.bytes ? HomeFate::kEmpties : HomeFate::kStays;
}

pb::LogGarbage log_garbage(std::span<const LogStore::Home> homes, Uses used) {
  pb::LogGarbage garbage;
  for (const StateMachine::SegmentUse& use : used)
    garbage.set_live_bytes(garbage.live_bytes() + use.bytes);
  for (const LogStore::Home& home : homes) {
    const HomeFate fate = fate_of(home, used);
    if (fate == HomeFate::kRetires) {
      garbage.set_empty_segments(garbage.empty_segments() + 1);
      garbage.set_empty_bytes(garbage.empty_bytes() + home.bytes);
    } else if (fate == HomeFate::kEmpties) {
      garbage.set_sparse_segments(garbage.sparse_segments() + 1);
      garbage.set_sparse_bytes(garbage.sparse_bytes() + home.bytes);
      garbage.set_moving_bytes(garbage.moving_bytes() + live_bytes(home, used));
    }
  }
  return garbage;
}

}  // namespace ballast::server
