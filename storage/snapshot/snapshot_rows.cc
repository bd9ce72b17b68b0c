#include "storage/snapshot/snapshot_rows.h"

#include "storage/kv/row_keys.h"

namespace ballast::storage {

Result<SnapshotPage> snapshot_page(const RowView& view, std::string_view after, size_t bytes_max) {
  const std::string first = after.empty() ? std::string() : std::string(after) + '\0';
  const auto rows = view.scan(first, kind_key(kFirstOfThisNode));
  SnapshotPage page;
  for (size_t bytes = 0; rows->valid() && bytes < bytes_max; rows->next()) {
    pb::RowPage::Row& row = *page.rows.add_rows();
    row.set_key(std::string(rows->key()));
    row.set_value(std::string(rows->value()));
    bytes += row.key().size() + row.value().size();
  }
  BALLAST_TRY_STATUS(rows->status());
  page.last = !rows->valid();
  return page;
}

}  // namespace ballast::storage
