// A snapshot on its way in: a database beside the one in use, which takes its place once it is
// whole (docs/formats/snapshot.md).
//
// Rows come first, then the blocks that they name and this node lacks. Blocks that have arrived
// outlive a crash and a new attempt: whoever resumes asks for those alone that are still missing.
#pragma once

#include <memory>
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

namespace ballast::storage {

// Blocks on the disk; one thread at a time. Errors of all functions: kIo; kCorrupt for what does
// not belong into a snapshot.
class IncomingSnapshot {
 public:
  // Opens the database in the directory, which is made if it is missing.
  static Result<std::unique_ptr<IncomingSnapshot>> open(StateOptions options);
  // The same over any store of rows.
  static std::unique_ptr<IncomingSnapshot> over(std::unique_ptr<RowStore> store);

  // Removes the database of a directory that nobody has open: what has come is damaged. Error: kIo.
  static Status discard(const std::string& directory);

  // Forgets the rows of an earlier attempt, not its blocks.
  Status begin();
  // REQUIRES: begin() was called. The keys rise from page to page.
  Status add(const pb::RowPage& page);

  // What blocks behind `after` are still to be fetched: at most `limit`, in the order of their
  // digests; none: that was the last. What `current`, the rows in use, has is taken from there;
  // null if there are none.
  Result<std::vector<pb::BlockRef>> missing(const RowView* current,
                                            const std::optional<Digest>& after, size_t limit);
  // The bytes of a block; kCorrupt if they are not those of the reference. May be called on several
  // threads, beside missing(). Durable after flush(), or as many bytes later as its write buffers
  // hold, some 100 MiB.
  Status add_block(const pb::BlockRef& reference, const Bytes& bytes);
  Status flush();
  // The rows are there: blocks that arrived for those of an earlier attempt, and that these do not
  // name, make room.
  Status drop_unnamed();

  // All blocks are there, but for those that entries behind these rows have deleted: the database
  // becomes one that open_segment_log() can be opened for with installed_base(). Durable when it
  // returns. `base` is the entry that the rows show. Error also kRefused for rows of a format that
  // this version does not know.
  Status finish(const LogBase& base);

 private:
  explicit IncomingSnapshot(std::unique_ptr<RowStore> store) : store_(std::move(store)) {}
  Result<bool> adopt(const RowView& current, const Digest& digest);
  Status drop_marks();

  std::unique_ptr<RowStore> store_;
  std::string last_key_;
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
