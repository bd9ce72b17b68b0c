#include <rocksdb/db.h>

#include <chrono>
#include <utility>

#include "proto/base/limits.h"
#include "storage/kv/row_keys.h"
#include "storage/kv/state_impl.h"

namespace ballast::storage {
namespace {

// What state_digest() hashes of a string: its length too, so that no two rows give the same bytes.
void hash_string(Sha256& hash, std::string_view text) {
  hash.update(as_byte_span(big_endian(text.size())));
  hash.update(as_byte_span(text));
}

// True if the block's bytes have its digest.
Result<bool> block_is_whole(rocksdb::DB& database, const rocksdb::Snapshot* snapshot,
                            const Digest& digest) {
  rocksdb::PinnableSlice bytes;
  const rocksdb::Status status = database.Get(block_reads(snapshot), database.DefaultColumnFamily(),
                                              bytes_key(digest), &bytes);
  // A blob file that is cut off or gone is an I/O error to RocksDB; here it is a damaged block.
  if (!status.ok()) return false;
  return sha256(as_byte_span(std::string_view(bytes.data(), bytes.size()))) == digest;
}

}  // namespace

Result<pb::VerifyBlocksReply> StateMachine::verify_blocks(const std::optional<Digest>& after,
                                                          std::chrono::milliseconds budget) const {
  const auto deadline = std::chrono::steady_clock::now() + budget;
  rocksdb::DB& database = *impl_->database;
  rocksdb::ManagedSnapshot snapshot(&database);
  const std::string prefix = kind_key(RowKind::kBlock);
  const std::string upper = prefix_end(prefix);
  const rocksdb::Slice bound(upper);
  rocksdb::ReadOptions options = row_reads(snapshot.snapshot());
  options.iterate_upper_bound = &bound;
  const std::unique_ptr<rocksdb::Iterator> rows(database.NewIterator(options));
  pb::VerifyBlocksReply reply;
  rows->Seek(after ? block_key(*after) + '\0' : prefix);
  while (rows->Valid()) {
    BALLAST_TRY(const Digest digest,
                Digest::from_raw(rows->key().ToStringView().substr(prefix.size())));
    BALLAST_TRY(const auto row, parse_row<pb::BlockRow>(rows->value().ToStringView()));
    BALLAST_TRY(const bool whole, block_is_whole(database, snapshot.snapshot(), digest));
    reply.set_blocks(reply.blocks() + 1);
    reply.set_bytes(reply.bytes() + row.length());
    if (!whole) reply.add_damaged(std::string(digest.text()));
    rows->Next();
    const bool full = reply.damaged_size() >= static_cast<int>(limits::kDamagedReportedMax);
    if (rows->Valid() && (full || std::chrono::steady_clock::now() >= deadline)) {
      reply.set_next(std::string(digest.text()));
      break;
    }
  }
  if (!rows->status().ok()) return database_failure("list blocks", rows->status());
  return reply;
}

Result<pb::StateDigestReply> StateMachine::state_digest() const {
  rocksdb::DB& database = *impl_->database;
  rocksdb::ManagedSnapshot snapshot(&database);
  const std::string upper = kind_key(RowKind::kBytes);
  const rocksdb::Slice bound(upper);
  rocksdb::ReadOptions options = row_reads(snapshot.snapshot());
  options.iterate_upper_bound = &bound;
  options.fill_cache = false;
  const std::unique_ptr<rocksdb::Iterator> rows(database.NewIterator(options));
  Sha256 hash;
  for (rows->SeekToFirst(); rows->Valid(); rows->Next()) {
    hash_string(hash, rows->key().ToStringView());
    hash_string(hash, rows->value().ToStringView());
  }
  if (!rows->status().ok()) return database_failure("read all rows", rows->status());
  BALLAST_TRY(const auto applied, get_row<pb::AppliedRow>(database, row_reads(snapshot.snapshot()),
                                                          kind_key(RowKind::kApplied)));
  pb::StateDigestReply reply;
  reply.set_applied_index(applied ? applied->index() : 0);
  reply.set_digest(std::string(hash.finish().text()));
  return reply;
}

}  // namespace ballast::storage
