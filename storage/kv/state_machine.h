// The state machine: what exists, as rows in RocksDB (docs/formats/rows.md).
//
// apply() is called by one thread, in log order, and is deterministic: the same entries give the
// same rows and the same results on every replica. Everything else is thread-safe and sees all of
// an entry or nothing of it. RocksDB's WAL is off and the applied index stands in every batch, so
// after a crash the rows are those of an earlier applied index and the log replays the rest.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "proto/base/bytes.h"
#include "proto/base/digest.h"
#include "proto/base/result.h"
#include "proto/service.pb.h"
#include "proto/storage.pb.h"
#include "storage/blocks/committed.h"
#include "storage/blocks/payloads.h"

namespace ballast::storage {

class RowStore;
class RowView;

// Hears of damage that was met: of a block's bytes, or, without a digest, of rows. Called on any
// thread, and as often as it is met.
using OnDamage = std::function<void(const std::optional<Digest>& block, const Error& error)>;

struct StateOptions {
  std::string directory;
  size_t write_buffer_bytes = 64ull << 20;
  size_t block_cache_bytes = 64ull << 20;
  // RocksDB's own messages, line by line; may be called on any thread. Null: they are dropped.
  std::function<void(std::string_view)> info_log;
  OnDamage on_damage = nullptr;
};

class StateMachine {
 public:
  struct Position {
    Term term;
    Index index;
    uint64_t time_ms = 0;
    uint64_t blocks = 0;
    uint64_t block_bytes = 0;
  };

  // `payloads` is where blocks are read. Errors: kIo, kCorrupt, kRefused (rows of a format this
  // version does not know).
  static Result<std::unique_ptr<StateMachine>> open(StateOptions options,
                                                    std::shared_ptr<const Payloads> payloads);
  // The same over any store of rows. The rows may come from a snapshot: see storage/snapshot/.
  // `on_damage` may be null.
  static Result<std::unique_ptr<StateMachine>> over(std::unique_ptr<RowStore> store,
                                                    std::shared_ptr<const Payloads> payloads,
                                                    OnDamage on_damage = nullptr);
  ~StateMachine();  // flushes

  // Applied, though perhaps only in memory. Thread-safe.
  Position applied() const;

  // Applies consecutive entries, the first at applied().index + 1, in one atomic batch; one result
  // for each. Blocks are not written again: a row says where they lie. An operation that can't be
  // done is a result with a code, not an error. An error (kIo, kCorrupt) means that nothing was
  // applied and the node must stop; after kNoSpace it may try again.
  Result<std::vector<pb::ApplyResult>> apply(std::span<const Committed> entries);

  // Makes everything applied durable, and the moves of blocks. After kNoSpace RocksDB takes no
  // more, and by itself goes on when there is space again; reads are served meanwhile.
  Status flush();
  // That the database's files take. Thread-safe.
  uint64_t disk_bytes() const;

  // How much of a log segment is live: the payloads of blocks that lie in it.
  struct SegmentUse {
    uint64_t sequence = 0;
    uint64_t bytes = 0;
    uint64_t blocks = 0;
    bool operator==(const SegmentUse&) const = default;
  };
  // Of all segments where a block lies, in the order of their sequences. Errors: kCorrupt, kIo.
  Result<std::vector<SegmentUse>> segments() const;

  // Finds the blocks that lie in these segments, in one walk over the places of all: what
  // move_blocks() would do for each by itself. Of the first of them at least, and of the others
  // while it takes little memory; nothing is done if those of the first are known. Any thread, but
  // not beside move_blocks() of the same segments. Errors: kCorrupt, kIo.
  Status find_blocks(std::span<const uint64_t> segments);

  // Moves blocks that lie in this segment into the database, as many as have at most `bytes_max`
  // bytes together, at least one and a few hundred at most; in one atomic batch. Returns their
  // bytes; 0: no block is left in the segment, and after flush() nothing needs it. Called by the
  // thread that calls apply(), between its calls. Error kCorrupt, once everything else has moved:
  // some blocks can't be read. They stay where they are, and their segment has to stay too, until
  // they are restored; the next call tries them again. Error kIo: the node must stop.
  Result<uint64_t> move_blocks(uint64_t segment, uint64_t bytes_max);

  // Reads. Errors: kNotFound with the name in the message; kCorrupt, kIo.
  Result<pb::KeyRow> key(std::string_view key) const;
  Result<pb::ListKeysReply> list_keys(const pb::ListKeys& request) const;
  Result<pb::ListModelsReply> list_models(const pb::ListModels& request) const;
  Result<pb::ListAliasesReply> list_aliases(const pb::ListAliases& request) const;
  Result<pb::GetVersionReply> version(const pb::GetVersion& request) const;

  // Those of the digests that are not stored here.
  Result<std::vector<Digest>> missing(std::span<const Digest> digests) const;
  // A block's encoded bytes, its CRC32C verified, and its reference.
  struct Block {
    pb::BlockRef reference;
    Bytes bytes;
  };
  Result<Block> block(const Digest& digest, ReadFrom from = ReadFrom::kCache) const;

  // What verify_blocks() may take before it stops, but for one block at least.
  struct VerifyBudget {
    std::chrono::milliseconds time;
    uint64_t bytes = UINT64_MAX;  // of blocks
  };
  // Reads blocks from the disk in the order of their digests, from `after` (exclusive; null: the
  // first) on, and compares SHA-256; stops at the end or when the budget is used up.
  Result<pb::VerifyBlocksReply> verify_blocks(const std::optional<Digest>& after,
                                              VerifyBudget budget) const;
  // Reads everything else that the database has, and compares RocksDB's checksums. Error kCorrupt:
  // rows are damaged, and only other rows in the place of all of them help.
  Status verify_rows() const;

  // Puts a stored block's bytes back to where they lie, or, if they can't lie there any more, into
  // the database. Durable after flush(). Called by the thread that calls apply(), between its
  // calls. Errors: kNotFound if the block isn't stored (any more); kInvalidArgument if the bytes
  // are not the block's; kCorrupt, kIo, kNoSpace.
  Status restore_block(const Digest& digest, const Bytes& bytes);
  // The block whose bytes the last apply() needed and could not read: if it is restored, the same
  // call may succeed. Of the thread that calls apply().
  std::optional<Digest> blocked_on() const;
  // Counts blocks that no commit names in the order of their leases, from where an earlier reply's
  // `next` says (empty: from the first) on; stops at the end or when `budget` is used up. `now_ms`
  // as has_expired(). What changes between two calls may be counted twice or not at all.
  // Error also kInvalidArgument if no reply said `after`.
  Result<pb::GarbageReply> garbage(std::string_view after, uint64_t now_ms,
                                   std::chrono::milliseconds budget) const;
  // SHA-256 over all rows, without the bytes of blocks, at one applied index.
  Result<pb::StateDigestReply> state_digest() const;
  // The members that the last applied configuration entry named; nothing before the first.
  Result<std::optional<pb::ConfigurationRow>> configuration() const;
  // The rows of this moment. Must not outlive the state machine.
  std::unique_ptr<RowView> rows() const;
  // True if Expire has something to do at this time of the primary's clock.
  bool has_expired(uint64_t now_ms) const;

 private:
  StateMachine();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ballast::storage
