#include "proto/backup/verify.h"

namespace ballast::backup {
namespace {

bool is_damage(const Error& error) {
  return error.code == Errc::kCorrupt || error.code == Errc::kNotFound ||
         error.code == Errc::kRefused;
}

// A medium that can't be read is damage too, of this block alone.
Status check_block(const BackupDirectory& directory, const pb::BlockRef& reference,
                   std::unordered_set<Digest>& whole, Verified& verified) {
  BALLAST_TRY(const Digest digest, Digest::from_raw(reference.digest()));
  if (!whole.contains(digest)) {
    const auto bytes = directory.block(reference);
    if (!bytes) {
      verified.damage.push_back({"block", digest, bytes.error().message});
      return {};
    }
    whole.insert(digest);
  }
  ++verified.blocks;
  verified.bytes += reference.length();
  return {};
}

Status check_rows(const BackupDirectory& directory, const Manifest& manifest,
                  std::unordered_set<Digest>& whole, Verified& verified) {
  BALLAST_TRY(RowsReader reader, directory.rows(manifest.name));
  while (true) {
    BALLAST_TRY(const auto page, reader.next());
    if (!page) break;
    ++verified.pages;
    for (const pb::RowPage::Row& row : page->rows()) {
      BALLAST_TRY(const auto block, block_of(row));
      if (block) BALLAST_TRY_STATUS(check_block(directory, *block, whole, verified));
    }
  }
  BALLAST_TRY(const RowsSummary found, reader.finish());
  if (found == manifest.rows) return {};
  return fail(Errc::kCorrupt, "{} rows in {} bytes are not the {} in {} that the manifest names",
              found.rows, found.bytes, manifest.rows.rows, manifest.rows.bytes);
}

}  // namespace

Result<Verified> verify(const BackupDirectory& directory, const BackupDirectory::Listed& backup,
                        std::unordered_set<Digest>& whole) {
  Verified verified{.name = backup.name};
  if (!backup.manifest) {
    verified.damage.push_back({"manifest", {}, backup.manifest.error().message});
    return verified;
  }
  const Status rows = check_rows(directory, *backup.manifest, whole, verified);
  if (rows) return verified;
  if (!is_damage(rows.error())) return std::unexpected(rows.error());
  verified.damage.push_back({"rows", {}, rows.error().message});
  return verified;
}

}  // namespace ballast::backup
