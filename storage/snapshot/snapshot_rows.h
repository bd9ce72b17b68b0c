// The rows of a snapshot on their way out: what all replicas share, in pages.
#pragma once

#include <cstddef>
#include <string_view>

#include "proto/base/result.h"
#include "proto/storage.pb.h"
#include "storage/kv/row_store.h"

namespace ballast::storage {

struct SnapshotPage {
  pb::RowPage rows;
  bool last = false;  // nothing follows
};

// The rows behind the key `after` (empty: from the first on), until they have `bytes_max` bytes
// together, but at least one. Errors: kIo, kCorrupt.
Result<SnapshotPage> snapshot_page(const RowView& view, std::string_view after, size_t bytes_max);

}  // namespace ballast::storage
