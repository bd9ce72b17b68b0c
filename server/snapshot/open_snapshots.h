// The snapshots that others are reading from this node: the rows of one moment each.
#pragma once

#include <map>
#include <memory>

#include "proto/base/clock.h"
#include "proto/base/result.h"
#include "proto/service.pb.h"
#include "storage/kv/row_store.h"
#include "storage/kv/state_machine.h"

namespace ballast::server {

// On one executor. Must not outlive the state machine.
class OpenSnapshots {
 public:
  // All of the reply but the chain value. Errors: kUnavailable if less than `index` is applied or
  // too many are open; kIo, kCorrupt.
  Result<pb::OpenSnapshotReply> open(const storage::StateMachine& state, Index index);
  // Error kNotFound if there is none of that number, or it was not used for a minute.
  Result<std::shared_ptr<const storage::RowView>> find(uint64_t id);
  void close(uint64_t id) { open_.erase(id); }

 private:
  struct Open {
    std::shared_ptr<const storage::RowView> rows;
    Clock::time_point used;
  };
  void close_idle();

  std::map<uint64_t, Open> open_;
  uint64_t last_id_ = 0;
};

}  // namespace ballast::server
