#include "storage/kv/block_rows.h"

#include <string>
#include <utility>

#include "storage/kv/row_keys.h"

namespace ballast::storage {

pb::BlockRef block_reference(const Digest& digest, const pb::BlockRow& row) {
  pb::BlockRef reference;
  reference.set_digest(std::string(digest.text()));
  reference.set_length(row.length());
  reference.set_crc32c(row.crc32c());
  return reference;
}

pb::PlaceRow place_row(Place place) {
  pb::PlaceRow row;
  row.set_segment(place.segment);
  row.set_unit(place.unit);
  return row;
}

Result<Bytes> read_block(const Payloads& payloads, const Digest& digest, const pb::BlockRow& row,
                         const std::optional<pb::PlaceRow>& place) {
  if (!place) return fail(Errc::kCorrupt, "no row says where block {} lies", digest.brief());
  auto bytes = payloads.read({place->segment(), place->unit()}, row.length(), row.crc32c());
  if (!bytes) return fail_within(std::move(bytes).error(), "block {}", digest.brief());
  return bytes;
}

bool block_is_whole(const RowView& rows, const Payloads& payloads, const Digest& digest,
                    const pb::BlockRow& row) {
  const auto place = rows.row<pb::PlaceRow>(place_key(digest));
  if (!place) return false;
  const auto bytes = read_block(payloads, digest, row, *place);
  return bytes && sha256(bytes->span()) == digest;
}

}  // namespace ballast::storage
