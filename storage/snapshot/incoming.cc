#include "storage/snapshot/incoming.h"

#include <filesystem>
#include <set>
#include <utility>

#include "proto/base/check.h"
#include "proto/base/crc32c.h"
#include "proto/base/limits.h"
#include "proto/base/planted.h"
#include "proto/files/files.h"
#include "storage/kv/apply.h"
#include "storage/kv/block_rows.h"
#include "storage/kv/database.h"
#include "storage/kv/row_keys.h"
#include "storage/kv/segment_use.h"

namespace ballast::storage {
namespace {

constexpr size_t kRowsOfBatch = 1000;
constexpr size_t kRowsOfWalk = 20'000;  // looked at in one call

// Collects changes, and writes them when there are enough. What the rows refer to is kept here.
class Batch {
 public:
  explicit Batch(RowStore& store) : store_(store) {}

  Status put(std::string key, std::string value) {
    return change({std::move(key), std::move(value)});
  }
  Status erase(std::string key) { return change({std::move(key), std::nullopt}); }
  Status write() {
    std::vector<RowChange> changes;
    for (const auto& [key, value] : rows_) changes.push_back({key, value});
    BALLAST_TRY_STATUS(store_.write(changes));
    rows_.clear();
    return {};
  }

 private:
  Status change(std::pair<std::string, std::optional<std::string>> row) {
    rows_.push_back(std::move(row));
    return rows_.size() < kRowsOfBatch ? Status() : write();
  }

  RowStore& store_;
  std::vector<std::pair<std::string, std::optional<std::string>>> rows_;
};

Status erase_rows(RowStore& store, const std::string& lower, const std::string& upper) {
  Batch batch(store);
  const auto rows = store.scan(lower, upper);
  for (; rows->valid(); rows->next()) BALLAST_TRY_STATUS(batch.erase(std::string(rows->key())));
  BALLAST_TRY_STATUS(rows->status());
  return batch.write();
}

template <class Each>
Status each_row(const RowView& rows, RowKind kind, Each each) {
  const std::string prefix = kind_key(kind);
  const auto found = rows.scan(prefix, prefix_end(prefix));
  for (; found->valid(); found->next()) BALLAST_TRY_STATUS(each(found->value()));
  return found->status();
}

// What the rows say of their number must be so, since from then on it is only counted up and down.
Status check_totals(const RowView& rows, const pb::AppliedRow& applied) {
  Totals there;
  BALLAST_TRY_STATUS(each_row(rows, RowKind::kBlock, [&](std::string_view value) -> Status {
    BALLAST_TRY(const auto block, parse_row<pb::BlockRow>(value));
    ++there.blocks;
    there.block_bytes += block.length();
    return {};
  }));
  BALLAST_TRY_STATUS(each_row(rows, RowKind::kSession, [&](std::string_view) -> Status {
    ++there.sessions;
    return {};
  }));
  BALLAST_TRY(const auto sessions, rows.get(kind_key(RowKind::kSessions)));
  const bool counted = sessions ? *sessions == big_endian(there.sessions) : there.sessions == 0;
  if (counted && applied.blocks() == there.blocks && applied.block_bytes() == there.block_bytes)
    return {};
  return fail(Errc::kCorrupt,
              "the snapshot's rows contradict each other: {} blocks of {} bytes and {} sessions "
              "are there, and not as many as they say",
              there.blocks, there.block_bytes, there.sessions);
}

std::string arrived_key(const Digest& digest) {
  return kind_key(RowKind::kArrived) + std::string(digest.text());
}

template <class Each>
Status each_arrived(const RowView& rows, Each each) {
  const std::string prefix = kind_key(RowKind::kArrived);
  const auto found = rows.scan(prefix, prefix_end(prefix));
  for (; found->valid(); found->next()) {
    BALLAST_TRY(const Digest digest, Digest::from_raw(found->key().substr(prefix.size())));
    BALLAST_TRY_STATUS(each(digest));
  }
  return found->status();
}

// Places in the log's segments: this node may have given them up since.
Status erase_adopted(RowStore& store) {
  Batch batch(store);
  const std::string prefix = kind_key(RowKind::kPlace);
  const auto places = store.scan(prefix, prefix_end(prefix));
  for (; places->valid(); places->next()) {
    BALLAST_TRY(const Digest digest, Digest::from_raw(places->key().substr(prefix.size())));
    BALLAST_TRY(const auto arrived, store.get(arrived_key(digest)));
    if (!arrived) BALLAST_TRY_STATUS(batch.erase(std::string(places->key())));
  }
  BALLAST_TRY_STATUS(places->status());
  return batch.write();
}

}  // namespace

Result<std::unique_ptr<IncomingSnapshot>> IncomingSnapshot::open(const IncomingOptions& options) {
  BALLAST_TRY_STATUS(make_directories(options.rows.directory));
  BALLAST_TRY(auto store, open_database(options.rows));
  BALLAST_TRY(auto blocks, open_arriving_blocks(options.blocks));
  return over(std::move(store), std::move(blocks));
}

std::unique_ptr<IncomingSnapshot> IncomingSnapshot::over(std::unique_ptr<RowStore> store,
                                                         std::unique_ptr<ArrivingBlocks> blocks) {
  return std::unique_ptr<IncomingSnapshot>(
      new IncomingSnapshot(std::move(store), std::move(blocks)));
}

// The rows first: those that are there must not name blocks that are gone.
Status IncomingSnapshot::discard(const IncomingOptions& options) {
  for (const std::string& directory : {options.rows.directory, options.blocks.directory}) {
    std::error_code error;
    std::filesystem::remove_all(directory, error);
    if (error) return fail(Errc::kIo, "cannot remove '{}': {}", directory, error.message());
  }
  return {};
}

Status IncomingSnapshot::begin() {
  last_key_.clear();
  // The bytes of blocks may lie between: a walk over their rows would read them all.
  BALLAST_TRY_STATUS(erase_rows(*store_, "", kind_key(RowKind::kBytes)));
  BALLAST_TRY_STATUS(erase_adopted(*store_));
  BALLAST_TRY_STATUS(
      erase_rows(*store_, kind_key(RowKind::kSegmentUse), kind_key(RowKind::kArrived)));
  return flush();
}

Status IncomingSnapshot::add(const pb::RowPage& page) {
  Batch batch(*store_);
  for (const pb::RowPage::Row& row : page.rows()) {
    if (row.key() <= last_key_ || row.key() >= kind_key(kFirstOfThisNode))
      return fail(Errc::kCorrupt, "a row of the snapshot is out of order");
    // Whoever opens the rows takes their keys apart without looking.
    if (!is_row_key(row.key()))
      return fail(Errc::kCorrupt, "a row of the snapshot has a key of kind {} and {} bytes",
                  static_cast<int>(row.key()[0]), row.key().size());
    last_key_ = row.key();
    BALLAST_TRY_STATUS(batch.put(row.key(), row.value()));
  }
  return batch.write();
}

// True if the rows in use tell where the block is, or give its bytes.
Result<bool> IncomingSnapshot::adopt(const RowView& current, const pb::BlockRef& reference) {
  BALLAST_TRY(const Digest digest, Digest::from_raw(reference.digest()));
  BALLAST_TRY(const auto place, current.get(place_key(digest)));
  if (place) {
    const std::string key = place_key(digest);
    BALLAST_TRY_STATUS(store_->write(std::vector<RowChange>{{key, *place}}));
    return true;
  }
  BALLAST_TRY(const auto bytes, current.get_large(bytes_key(digest)));
  if (!bytes) return false;
  BALLAST_TRY_STATUS(add_block(reference, *bytes));
  return true;
}

Result<bool> IncomingSnapshot::is_here(const Digest& digest) const {
  BALLAST_TRY(const auto arrived, store_->get(arrived_key(digest)));
  if (arrived) return true;
  BALLAST_TRY(const auto placed, store_->get(place_key(digest)));
  return placed.has_value();
}

// `each(reference)` of the named blocks behind `after` that have not come, until it returns false
// or enough rows were looked at. Returns where to go on.
template <class Each>
Result<std::optional<Digest>> IncomingSnapshot::each_not_here(const std::optional<Digest>& after,
                                                              Each each) {
  // From here on what has arrived is only looked for in the rows.
  if (!after) BALLAST_TRY_STATUS(flush());
  const std::string prefix = kind_key(RowKind::kBlock);
  const auto rows = store_->scan(after ? block_key(*after) + '\0' : prefix, prefix_end(prefix));
  size_t looked_at = 0;
  for (; rows->valid(); rows->next()) {
    BALLAST_TRY(const Digest digest, Digest::from_raw(rows->key().substr(prefix.size())));
    BALLAST_TRY(const bool here, is_here(digest));
    bool on = ++looked_at < kRowsOfWalk;
    if (!here) {
      BALLAST_TRY(const auto row, parse_row<pb::BlockRow>(rows->value()));
      BALLAST_TRY(const bool wants_more, each(block_reference(digest, row)));
      on = on && wants_more;
    }
    if (!on) return std::optional(digest);
  }
  BALLAST_TRY_STATUS(rows->status());
  return std::optional<Digest>();
}

Result<IncomingSnapshot::Missing> IncomingSnapshot::missing(const RowView* current,
                                                            const std::optional<Digest>& after,
                                                            size_t limit) {
  Missing missing;
  uint64_t adopted_bytes = 0;
  const auto look = [&](const pb::BlockRef& reference) -> Result<bool> {
    const auto adopted = current == nullptr ? Result<bool>(false) : adopt(*current, reference);
    // The rows in use may be damaged: others have the block.
    if (!adopted && adopted.error().code != Errc::kCorrupt) return adopted;
    if (adopted && *adopted)
      adopted_bytes += reference.length();
    else
      missing.blocks.push_back(reference);
    return missing.blocks.size() < limit && adopted_bytes < kUnflushedBytes;
  };
  BALLAST_TRY(missing.next, each_not_here(after, look));
  return missing;
}

Result<IncomingSnapshot::Needed> IncomingSnapshot::needed(const RowView* current,
                                                          const std::optional<Digest>& after) {
  Needed needed;
  const auto look = [&](const pb::BlockRef& reference) -> Result<bool> {
    BALLAST_TRY(const Digest digest, Digest::from_raw(reference.digest()));
    const auto place =
        current == nullptr ? Result<std::optional<std::string>>() : current->get(place_key(digest));
    const bool placed = place && *place;
    needed.bytes += placed ? 0 : arriving_bytes(reference);
    return true;
  };
  BALLAST_TRY(needed.next, each_not_here(after, look));
  return needed;
}

Status IncomingSnapshot::add_block(const pb::BlockRef& reference, const Bytes& bytes) {
  BALLAST_TRY(const Digest digest, Digest::from_raw(reference.digest()));
  if (bytes.size() != reference.length() || crc32c(bytes.span()) != reference.crc32c() ||
      sha256(bytes.span()) != digest)
    return fail(Errc::kCorrupt, "what came as block {} is something else", digest.brief());
  BALLAST_TRY(const Place place, blocks_->add(reference, bytes));
  {
    const std::lock_guard lock(mutex_);
    unflushed_.push_back({digest, place});
    unflushed_bytes_ += bytes.size();
    if (unflushed_bytes_ < kUnflushedBytes && !BALLAST_PLANTED(kPlaceBeforeBytes)) return {};
  }
  return flush();
}

// A row that says where a block lies must not outlive a crash that the block does not.
Status IncomingSnapshot::flush() {
  const std::lock_guard flushing(flushing_);
  if (flushed_) flushed_ = place_unflushed();
  return flushed_;
}

Status IncomingSnapshot::place_unflushed() {
  std::vector<Arrived> arrived;
  {
    const std::lock_guard lock(mutex_);
    arrived = std::exchange(unflushed_, {});
    unflushed_bytes_ = 0;
  }
  if (arrived.empty() || !BALLAST_PLANTED(kPlaceBeforeBytes)) BALLAST_TRY_STATUS(blocks_->sync());
  Batch batch(*store_);
  for (const Arrived& block : arrived) {
    BALLAST_TRY_STATUS(
        batch.put(place_key(block.digest), place_row(block.place).SerializeAsString()));
    BALLAST_TRY_STATUS(batch.put(arrived_key(block.digest), ""));
  }
  BALLAST_TRY_STATUS(batch.write());
  return store_->flush();
}

Status IncomingSnapshot::drop_unnamed() {
  BALLAST_TRY_STATUS(flush());
  Batch batch(*store_);
  std::set<uint64_t> segments;
  BALLAST_TRY_STATUS(each_arrived(*store_, [&](const Digest& digest) -> Status {
    BALLAST_TRY(const auto named, store_->get(block_key(digest)));
    BALLAST_TRY(const auto placed, store_->row<pb::PlaceRow>(place_key(digest)));
    if (named && placed) segments.insert(placed->segment());
    if (named) return {};
    BALLAST_TRY_STATUS(batch.erase(bytes_key(digest)));
    BALLAST_TRY_STATUS(batch.erase(place_key(digest)));
    return batch.erase(arrived_key(digest));
  }));
  BALLAST_TRY_STATUS(batch.write());
  BALLAST_TRY_STATUS(store_->flush());
  return blocks_->keep(segments);
}

// From now on it does not matter which blocks were brought.
Status IncomingSnapshot::drop_marks() {
  Batch batch(*store_);
  BALLAST_TRY_STATUS(each_arrived(
      *store_, [&](const Digest& digest) { return batch.erase(arrived_key(digest)); }));
  return batch.write();
}

Status IncomingSnapshot::finish(const LogBase& base) {
  BALLAST_TRY(const auto applied, store_->row<pb::AppliedRow>(kind_key(RowKind::kApplied)));
  if (!applied || applied->index() != base.index.value() || applied->term() != base.term.value())
    return fail(Errc::kCorrupt, "the snapshot's rows are not those of entry {}", base.index);
  BALLAST_TRY_STATUS(check_row_format(applied->format()));
  BALLAST_TRY_STATUS(check_totals(*store_, *applied));
  BALLAST_TRY_STATUS(drop_unnamed());
  BALLAST_TRY_STATUS(blocks_->seal());
  BALLAST_TRY_STATUS(drop_marks());
  BALLAST_TRY_STATUS(take_over_rows(*store_, *applied));
  pb::InstalledRow installed;
  installed.set_index(base.index.value() + (BALLAST_PLANTED(kSnapshotGap) ? 1 : 0));
  installed.set_term(base.term.value());
  installed.set_chain(base.chain);
  const std::string key = kind_key(RowKind::kInstalled);
  const std::string value = installed.SerializeAsString();
  BALLAST_TRY_STATUS(store_->write(std::vector<RowChange>{{key, value}}));
  return store_->flush();
}

Result<RowsAt> look_at_rows(const std::string& directory) {
  BALLAST_TRY(const auto names, list_directory(directory));
  if (names.empty()) return RowsAt();
  BALLAST_TRY(const auto rows, open_database_to_read(directory));
  return look_at_rows(*rows);
}

Result<RowsAt> look_at_rows(const RowView& rows) {
  BALLAST_TRY(const auto applied, rows.row<pb::AppliedRow>(kind_key(RowKind::kApplied)));
  BALLAST_TRY(const auto installed, installed_base(rows));
  return RowsAt{Index(applied ? applied->index() : 0), installed};
}

bool supersedes(const RowsAt& incoming, const RowsAt& current) {
  const bool whole = incoming.installed && incoming.installed->index == incoming.index;
  return incoming.index > current.index && (whole || BALLAST_PLANTED(kHalfSnapshotInstalled));
}

Result<std::optional<LogBase>> installed_base(const RowView& rows) {
  BALLAST_TRY(const auto row, rows.row<pb::InstalledRow>(kind_key(RowKind::kInstalled)));
  if (!row) return std::optional<LogBase>();
  return std::optional(LogBase{Index(row->index()), Term(row->term()), row->chain()});
}

}  // namespace ballast::storage
