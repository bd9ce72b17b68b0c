// What the rows say of blocks, and the bytes behind them.
#pragma once

#include <optional>

#include "proto/base/digest.h"
#include "proto/base/result.h"
#include "proto/storage.pb.h"
#include "storage/blocks/payloads.h"
#include "storage/kv/row_store.h"

namespace ballast::storage {

pb::BlockRef block_reference(const Digest& digest, const pb::BlockRow& row);

pb::PlaceRow place_row(Place place);

// The block's bytes from where this node has them, their CRC32C verified.
// Errors: kCorrupt (also if there is no row that says where), kIo; they name the block.
Result<Bytes> read_block(const Payloads& payloads, const Digest& digest, const pb::BlockRow& row,
                         const std::optional<pb::PlaceRow>& place);

// True if the block can be read and has its digest. A file that is cut off or gone is a damaged
// block here.
bool block_is_whole(const RowView& rows, const Payloads& payloads, const Digest& digest,
                    const pb::BlockRow& row);

}  // namespace ballast::storage
