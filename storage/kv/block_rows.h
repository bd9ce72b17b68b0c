// What the rows say of blocks, and the bytes behind them.
//
// This node has a block's bytes in one of two homes: as a payload in its log, which a row of kind
// kPlace points to, or in a row of kind kBytes. Either are of this node alone.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "proto/base/digest.h"
#include "proto/base/result.h"
#include "proto/storage.pb.h"
#include "storage/blocks/payloads.h"
#include "storage/kv/row_keys.h"
#include "storage/kv/row_store.h"

namespace ballast::storage {

pb::BlockRef block_reference(const Digest& digest, const pb::BlockRow& row);

pb::PlaceRow place_row(Place place);
Place place_of(const pb::PlaceRow& row);

// The row that makes the database the home of a block. Its value is the bytes themselves, which
// must outlive it.
struct BytesRow {
  std::string key;
  std::string_view value;

  RowChange change() const { return {key, value}; }
};
BytesRow bytes_row(const Digest& digest, const Bytes& bytes);
// The value of such a row. Error kCorrupt if the bytes are not what the block's row says.
Result<Bytes> check_bytes_row(Bytes value, const Digest& digest, const pb::BlockRow& block);

struct StoredBlock {
  pb::BlockRow row;
  std::optional<Place> place;  // none: the bytes are in the database
  Bytes bytes;                 // their CRC32C verified
};

// Parts of stored_block().
Result<Bytes> read_place(const Payloads& payloads, Place place, const Digest& digest,
                         const pb::BlockRow& block, ReadFrom from);
std::unexpected<Error> no_home(const Digest& digest);

// A block and its bytes, from where these rows (a RowView or a RowBatch) say that they are; nothing
// if it isn't stored. Errors: kCorrupt (also if no row says where), kIo; they name the block.
template <class Rows>
Result<std::optional<StoredBlock>> stored_block(const Rows& rows, const Payloads& payloads,
                                                const Digest& digest,
                                                ReadFrom from = ReadFrom::kCache) {
  BALLAST_TRY(auto row, rows.template row<pb::BlockRow>(block_key(digest)));
  if (!row) return std::optional<StoredBlock>();
  StoredBlock block{.row = *std::move(row)};
  BALLAST_TRY(const auto place, rows.template row<pb::PlaceRow>(place_key(digest)));
  if (place) {
    block.place = place_of(*place);
    BALLAST_TRY(block.bytes, read_place(payloads, *block.place, digest, block.row, from));
    return std::optional(std::move(block));
  }
  auto value = rows.get_large(bytes_key(digest));
  if (!value) return fail_within(value.error(), "block {}", digest.brief());
  if (!*value) return no_home(digest);
  BALLAST_TRY(block.bytes, check_bytes_row(**std::move(value), digest, block.row));
  return std::optional(std::move(block));
}

// False if the block could not be read, for whatever reason: a file that is cut off or gone is a
// damaged block here; or if it has another digest. One that isn't stored any more lacks nothing.
bool is_whole(const Digest& digest, const Result<std::optional<StoredBlock>>& block);

}  // namespace ballast::storage
