#include "bench/log/database_reads.h"

#include <algorithm>
#include <random>
#include <vector>

#include "bench/log/measure.h"
#include "proto/base/crc32c.h"
#include "proto/base/limits.h"
#include "proto/files/files.h"
#include "storage/kv/block_rows.h"
#include "storage/kv/database.h"
#include "storage/kv/row_keys.h"
#include "storage/log/segment_set.h"

namespace ballast::bench {
namespace {

constexpr uint64_t kStoredBytes = 1024 * limits::kMiB;
constexpr uint64_t kFlushBytes = 64 * limits::kMiB;

// No two blocks share a digest; that they share their bytes is nothing to RocksDB.
std::vector<Digest> digests_of(uint64_t blocks) {
  std::vector<Digest> digests;
  for (uint64_t i = 0; i < blocks; ++i)
    digests.push_back(sha256(as_byte_span(storage::big_endian(i))));
  return digests;
}

Status fill(storage::RowStore& rows, const std::vector<Digest>& digests, const Bytes& payload) {
  pb::BlockRow row;
  row.set_length(static_cast<uint32_t>(payload.size()));
  row.set_crc32c(crc32c(payload.span()));
  const std::string value = row.SerializeAsString();
  uint64_t unflushed = 0;
  for (const Digest& digest : digests) {
    const std::string key = storage::block_key(digest);
    const storage::BytesRow bytes = storage::bytes_row(digest, payload);
    BALLAST_TRY_STATUS(rows.write(std::vector<storage::RowChange>{{key, value}, bytes.change()}));
    unflushed += payload.size();
    if (unflushed < kFlushBytes) continue;
    BALLAST_TRY_STATUS(rows.flush());
    unflushed = 0;
  }
  return rows.flush();
}

}  // namespace

Result<nlohmann::json> read_database(const std::string& directory, const Bytes& payload,
                                     double seconds) {
  std::vector<Digest> digests = digests_of(kStoredBytes / payload.size());
  const bool fresh = !path_exists(directory);
  BALLAST_TRY_STATUS(make_directories(directory));
  BALLAST_TRY(const auto rows, storage::open_database({.directory = directory}));
  if (fresh) BALLAST_TRY_STATUS(fill(*rows, digests, payload));
  BALLAST_TRY_STATUS(forget_cached(directory));
  std::ranges::shuffle(digests, std::mt19937_64(11));
  const storage::SegmentSet no_segments;
  Measure measure(payload.size());
  for (const Digest& digest : digests) {
    if (measure.seconds() >= seconds) break;
    const auto started = SteadyClock::now();
    BALLAST_TRY(const auto block, storage::stored_block(*rows, no_segments, digest));
    if (!block) return fail(Errc::kCorrupt, "block {} is not there", digest.brief());
    measure.add(us_since(started));
  }
  return measure.result();
}

}  // namespace ballast::bench
