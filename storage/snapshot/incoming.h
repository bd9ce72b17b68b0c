// A snapshot on its way in: a database beside the one in use, which takes its place once it is
// whole, and segments of blocks, which become homes beside those of the log
// (docs/formats/snapshot.md).
//
// Rows come first, then the blocks that they name and this node lacks. Blocks that have arrived
// outlive a crash and a new attempt: whoever resumes asks for those alone that are still missing.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "proto/base/bytes.h"
#include "proto/base/digest.h"
#include "proto/base/result.h"
#include "proto/storage.pb.h"
#include "storage/kv/row_store.h"
#include "storage/kv/state_machine.h"
#include "storage/log/log_base.h"
#include "storage/snapshot/arriving_blocks.h"

namespace ballast::storage {

// Blocks are made durable when so many bytes of them have arrived. Meanwhile as many more may
// arrive: a crash loses twice of it at most.
inline constexpr uint64_t kUnflushedBytes = 128ull << 20;

struct IncomingOptions {
  StateOptions rows;
  ArrivingOptions blocks;
};

// Blocks on the disk; one thread at a time. Errors of all functions: kIo; kCorrupt for what does
// not belong into a snapshot.
class IncomingSnapshot {
 public:
  // Opens the database and the segments in their directories, which are made if they are missing.
  static Result<std::unique_ptr<IncomingSnapshot>> open(const IncomingOptions& options);
  // The same over any store of rows.
  static std::unique_ptr<IncomingSnapshot> over(std::unique_ptr<RowStore> store,
                                                std::unique_ptr<ArrivingBlocks> blocks);
  // Removes what nobody has open: what has come is damaged, or of no use. Error: kIo.
  static Status discard(const IncomingOptions& options);

  // Forgets the rows of an earlier attempt, not its blocks.
  Status begin();
  // REQUIRES: begin() was called. The keys rise from page to page.
  Status add(const pb::RowPage& page);

  // What a walk over blocks has found, up to where it went in one call.
  struct Missing {
    std::vector<pb::BlockRef> blocks;  // in the order of their digests
    std::optional<Digest> next;        // where to go on behind; nothing: that was the end
  };
  // What blocks behind `after` are still to be fetched, at most `limit`. What `current`, the rows
  // in use, has is taken from there; null if there are none.
  Result<Missing> missing(const RowView* current, const std::optional<Digest>& after, size_t limit);
  struct Needed {
    uint64_t bytes = 0;  // of the disk
    std::optional<Digest> next;
  };
  // How much of the disk the blocks behind `after` will take that missing() will have to tell of or
  // to copy: they are looked for likewise, and nothing is changed.
  Result<Needed> needed(const RowView* current, const std::optional<Digest>& after);
  // The bytes of a block; kCorrupt if they are not those of the reference. May be called on several
  // threads, beside missing(). Durable after flush(), or at most kUnflushedBytes later.
  Status add_block(const pb::BlockRef& reference, const Bytes& bytes);
  // What was added before the call is durable. After an error every later call fails: what is added
  // next can't be told from what may be lost.
  Status flush();
  // The rows are there: blocks that arrived for those of an earlier attempt, and that these do not
  // name, are given up.
  Status drop_unnamed();

  // All blocks are there, but for those that entries behind these rows have deleted: the database
  // becomes one that open_segment_log() can be opened for with installed_base(). Durable when it
  // returns. `base` is the entry that the rows show. Error also kRefused for rows of a format that
  // this version does not know.
  Status finish(const LogBase& base);

 private:
  struct Arrived {
    Digest digest;
    Place place;
  };

  IncomingSnapshot(std::unique_ptr<RowStore> store, std::unique_ptr<ArrivingBlocks> blocks)
      : store_(std::move(store)), blocks_(std::move(blocks)) {}
  Result<bool> adopt(const RowView& current, const pb::BlockRef& reference);
  Status place_unflushed();
  Result<bool> is_here(const Digest& digest) const;
  template <class Each>
  Result<std::optional<Digest>> each_not_here(const std::optional<Digest>& after, Each each);
  Status drop_marks();

  std::unique_ptr<RowStore> store_;
  std::unique_ptr<ArrivingBlocks> blocks_;
  std::string last_key_;
  std::mutex flushing_;  // one at a time
  std::mutex mutex_;
  std::vector<Arrived> unflushed_;  // their rows wait until their bytes are durable
  uint64_t unflushed_bytes_ = 0;
  Status flushed_;  // an error stays; guarded by flushing_
};

// What rows show, in use or on their way in.
struct RowsAt {
  Index index;  // the entry; 0: there are none
  std::optional<LogBase> installed;
};
// Errors: kIo, kCorrupt.
Result<RowsAt> look_at_rows(const RowView& rows);
// Of a database that nobody has open, by its directory.
Result<RowsAt> look_at_rows(const std::string& directory);
// True if the snapshot is whole and is to take the place of the rows in use.
bool supersedes(const RowsAt& incoming, const RowsAt& current);

// Where the log of these rows begins if they came as a snapshot. Errors: kIo, kCorrupt.
Result<std::optional<LogBase>> installed_base(const RowView& rows);

}  // namespace ballast::storage
