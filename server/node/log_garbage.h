// Which log segments a node lets go of: one rule for whoever does it and whoever tells of it.
#pragma once

#include <cstdint>
#include <vector>

#include "proto/service.pb.h"
#include "storage/kv/state_machine.h"
#include "storage/log/log_store.h"

namespace ballast::server {

// What a node's blocks take of its disk, in bytes.
struct Stock {
  // Segments that the log has forgotten.
  std::vector<storage::LogStore::Home> homes;
  // What lies in these and in the log's own, in the order of their sequences. REQUIRES: counted
  // later than the homes were asked for: a segment that becomes one in between may hold blocks that
  // were not counted.
  std::vector<storage::StateMachine::SegmentUse> used;
  uint64_t live = 0;      // of all blocks, in segments and in the database
  uint64_t log = 0;       // that the files of the log take, but for spare ones
  uint64_t database = 0;  // that the database takes
};

// What becomes of a segment that the log has forgotten.
enum class HomeFate : uint8_t {
  kStays,
  kRetires,  // no block lies in it
  kEmpties,  // its blocks move into the database
};

// Of each home. One empties if the records of live blocks take less than half of it; and, the
// sparsest first, if less than three quarters of it are bytes of live blocks, for as long as all
// takes more of the disk than 1.75 of the live bytes. So it takes about twice of these at most
// while clients remove at random; and a small store, most of which lies in segments that the log
// needs, moves nothing for the sake of what can't be helped.
std::vector<HomeFate> fates_of(const Stock& stock);

// Whether more of the disk is taken than that.
bool takes_too_much(const Stock& stock);

// Bytes of spare segments that may stay: until all takes as much as that, once the empty homes are
// spare too.
uint64_t spare_budget(const Stock& stock);

// How much of a segment is bytes of live blocks, 0 to 1.
double live_share(const Stock& stock, const storage::LogStore::Home& home);

pb::LogGarbage log_garbage(const Stock& stock);

}  // namespace ballast::server
