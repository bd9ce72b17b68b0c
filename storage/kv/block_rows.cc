#include "storage/kv/block_rows.h"

#include <utility>

#include "proto/base/crc32c.h"

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

Place place_of(const pb::PlaceRow& row) { return {row.segment(), row.unit()}; }

BytesRow bytes_row(const Digest& digest, const Bytes& bytes) {
  return {bytes_key(digest), bytes.text()};
}

Result<Bytes> check_bytes_row(Bytes value, const Digest& digest, const pb::BlockRow& block) {
  if (value.size() != block.length())
    return fail(Errc::kCorrupt, "block {} has {} bytes in the database instead of {}",
                digest.brief(), value.size(), block.length());
  if (crc32c(value.span()) != block.crc32c())
    return fail(Errc::kCorrupt, "the bytes of block {} in the database do not match their CRC32C",
                digest.brief());
  return value;
}

Result<Bytes> read_place(const Payloads& payloads, Place place, const Digest& digest,
                         const pb::BlockRow& block, ReadFrom from) {
  auto bytes = payloads.read(place, block.length(), block.crc32c(), from);
  if (!bytes) return fail_within(std::move(bytes).error(), "block {}", digest.brief());
  return bytes;
}

std::unexpected<Error> no_home(const Digest& digest) {
  return fail(Errc::kCorrupt, "no row says where block {} lies", digest.brief());
}

bool is_whole(const Digest& digest, const Result<std::optional<StoredBlock>>& block) {
  return block && (!*block || sha256((*block)->bytes.span()) == digest);
}

}  // namespace ballast::storage
