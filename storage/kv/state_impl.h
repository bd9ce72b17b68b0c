// The state machine's inside, shared by its source files.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "storage/kv/apply.h"
#include "storage/kv/block_rows.h"
#include "storage/kv/database.h"
#include "storage/kv/state_machine.h"

namespace ballast::storage {

// The blocks of a segment that move_blocks() moves: found once, since that takes a walk over the
// places of all blocks.
struct SegmentMove {
  std::vector<Digest> left;
  uint64_t damaged = 0;
  std::string first_damage;  // what was wrong with it
};

// Blocks on their way from one segment into the database.
struct Load {
  std::vector<std::pair<Digest, Bytes>> blocks;
  uint64_t bytes = 0;
};

struct StateMachine::Impl {
  std::unique_ptr<RowStore> store;
  std::shared_ptr<const Payloads> payloads;

  mutable std::mutex mutex;  // guards `position`
  Position position;
  Totals totals;  // of the applying thread

  std::mutex moves_mutex;
  std::map<uint64_t, SegmentMove> moves;  // by the segments that were looked for

  // ApplyContext says what these are; has_expired() moves them on.
  mutable std::atomic<uint64_t> lease_floor_ms{0};
  mutable std::atomic<uint64_t> session_floor_ms{0};

  OnDamage on_damage;
  std::optional<Digest> blocked_on;  // of the applying thread

  // The block as these rows have it, or else as the newest do: since they were taken, it may have
  // moved and its log segment have gone. Nothing if it isn't stored. Errors: kCorrupt, kIo.
  Result<std::optional<StoredBlock>> stored_block(const RowView& rows, const Digest& digest,
                                                  ReadFrom from) const;
  void note_damage(const std::optional<Digest>& block, const Error& error) const {
    if (on_damage) on_damage(block, error);
  }

  // Takes blocks off the end of `move` until it has enough of them.
  Result<Load> read_load(uint64_t segment, SegmentMove& move, uint64_t bytes_max);
  // What move_blocks() does, but for forgetting the segment's move after an error.
  Result<uint64_t> move_on(uint64_t segment, uint64_t bytes_max);
  // What was found before, or is now.
  Result<SegmentMove> take_move(uint64_t segment);

  Position applied() const {
    const std::lock_guard lock(mutex);
    return position;
  }

  // Set after the rows are in the database: whoever sees an index also sees its rows.
  void set_applied(const Position& applied) {
    const std::lock_guard lock(mutex);
    position = applied;
  }
};

}  // namespace ballast::storage
