// A block that has rotted here, put right with the bytes of another replica.
#include "storage/kv/block_rows.h"
#include "storage/kv/row_batch.h"
#include "storage/kv/row_keys.h"
#include "storage/kv/segment_use.h"
#include "storage/kv/state_impl.h"

namespace ballast::storage {
namespace {

Status write_to_database(RowStore& store, const Digest& digest, const Bytes& bytes,
                         const std::optional<pb::PlaceRow>& place) {
  RowBatch rows(store);
  rows.put(bytes_key(digest), std::string(bytes.text()));
  if (place) {
    rows.erase(place_key(digest));
    BALLAST_TRY_STATUS(drop_use(rows, place->segment(), bytes.size()));
  }
  rows.settle();
  return store.write(rows.changes());
}

}  // namespace

Status StateMachine::restore_block(const Digest& digest, const Bytes& bytes) {
  if (sha256(bytes.span()) != digest)
    return fail(Errc::kInvalidArgument, "these are not the bytes of block {}", digest.brief());
  RowStore& rows = *impl_->store;
  BALLAST_TRY(const auto row, rows.row<pb::BlockRow>(block_key(digest)));
  if (!row) return fail(Errc::kNotFound, "block {} is not stored", digest.brief());
  BALLAST_TRY(const auto place, rows.row<pb::PlaceRow>(place_key(digest)));
  // In its place it also serves those who read it as an entry of the log.
  if (place && impl_->payloads->restore(place_of(*place), bytes)) return {};
  return write_to_database(rows, digest, bytes, place);
}

}  // namespace ballast::storage
