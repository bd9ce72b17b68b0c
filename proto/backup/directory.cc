#include "proto/backup/directory.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "proto/files/files.h"

namespace ballast::backup {
namespace {

namespace fs = std::filesystem;

constexpr const char* kManifestName = "manifest.json";
constexpr const char* kRowsName = "rows";
constexpr size_t kManifestBytesMax = 64 * limits::kKiB;

std::string blocks_path(const std::string& path) { return path + "/blocks"; }
std::string backups_path(const std::string& path) { return path + "/backups"; }

std::string block_path(const std::string& path, const Digest& digest) {
  const std::string hex = digest.hex();
  return fmt::format("{}/{}/{}", blocks_path(path), hex.substr(0, 2), hex);
}

Result<UniqueFd> lock(const std::string& path) {
  BALLAST_TRY(UniqueFd file, open_file(path + "/LOCK", O_RDWR | O_CREAT));
  const Status locked = lock_file(file, std::chrono::milliseconds(0));
  if (!locked && locked.error().code == Errc::kRefused)
    return fail(Errc::kRefused, "another program makes or removes a backup in '{}': wait for it",
                path);
  BALLAST_TRY_STATUS(locked);
  return file;
}

// Somebody else's directory is not to be filled.
Status check_ours(const std::string& path) {
  if (!path_exists(path)) return {};
  BALLAST_TRY(const auto names, list_directory(path));
  const bool ours = std::ranges::all_of(names, [](const std::string& name) {
    return name == "LOCK" || name == "blocks" || name == "backups" || name == "lost+found";
  });
  if (ours) return {};
  return fail(Errc::kRefused, "'{}' holds other things than backups: choose another directory",
              path);
}

Status remove_rows(const std::string& path, const std::string& name) {
  const std::string directory = backups_path(path) + "/" + name;
  for (const char* file : {kRowsName, "manifest.json.tmp"})
    BALLAST_TRY_STATUS(remove_file(directory + "/" + file));
  if (::rmdir(directory.c_str()) != 0 && errno != ENOENT) return os_failure("remove", directory);
  return sync_directory(backups_path(path));
}

Status remove_unfinished(const std::string& path) {
  BALLAST_TRY(const auto names, list_directory(backups_path(path)));
  for (const std::string& name : names) {
    std::error_code error;
    if (!fs::exists(BackupDirectory(path).manifest_path(name), error) && !error)
      BALLAST_TRY_STATUS(remove_rows(path, name));
  }
  return {};
}

// The names of the files of all blocks that the backups but one name. Sorted.
Result<std::vector<std::string>> named_by_others(const BackupDirectory& directory,
                                                 const std::string& but) {
  std::vector<std::string> named;
  BALLAST_TRY(const auto backups, directory.list());
  for (const BackupDirectory::Listed& listed : backups) {
    if (listed.name == but) continue;
    BALLAST_TRY(RowsReader reader, directory.rows(listed.name));
    while (true) {
      auto page = reader.next();
      if (!page)
        return fail_within(std::move(page).error(),
                           "backup '{}' may need blocks of this one, but can't be read: remove it "
                           "first",
                           listed.name);
      if (!*page) break;
      for (const pb::RowPage::Row& row : (*page)->rows()) {
        BALLAST_TRY(const auto block, block_of(row));
        if (!block) continue;
        BALLAST_TRY(const Digest digest, Digest::from_raw(block->digest()));
        named.push_back(digest.hex());
      }
    }
  }
  std::ranges::sort(named);
  return named;
}

// Also what a broken write left.
Result<Removed> remove_all_but(const std::string& path, const std::vector<std::string>& named) {
  Removed removed;
  BALLAST_TRY(const auto directories, list_directory(blocks_path(path)));
  for (const std::string& two : directories) {
    const std::string directory = blocks_path(path) + "/" + two;
    BALLAST_TRY(const auto names, list_directory(directory));
    for (const std::string& name : names) {
      if (std::ranges::binary_search(named, name)) continue;
      std::error_code error;
      const uint64_t bytes = fs::file_size(directory + "/" + name, error);
      BALLAST_TRY_STATUS(remove_file(directory + "/" + name));
      ++removed.blocks;
      removed.bytes += error ? 0 : bytes;
    }
  }
  return removed;
}

}  // namespace

// ---- BackupDirectory ----------------------------------------------------------------------------

std::string BackupDirectory::manifest_path(const std::string& name) const {
  return fmt::format("{}/{}/{}", backups_path(path_), name, kManifestName);
}

std::string BackupDirectory::rows_path(const std::string& name) const {
  return fmt::format("{}/{}/{}", backups_path(path_), name, kRowsName);
}

Result<Manifest> BackupDirectory::manifest(const std::string& name) const {
  const std::string path = manifest_path(name);
  BALLAST_TRY(const std::string text, read_file(path, kManifestBytesMax));
  auto manifest = parse_manifest(text);
  if (!manifest) return fail_within(std::move(manifest).error(), "'{}'", path);
  if (manifest->name == name) return manifest;
  return fail(Errc::kCorrupt, "'{}' is of the backup '{}': give its directory that name", path,
              manifest->name);
}

Result<std::vector<BackupDirectory::Listed>> BackupDirectory::list() const {
  std::error_code error;
  if (!fs::is_directory(backups_path(path_), error))
    return fail(Errc::kNotFound, "'{}' holds no backups: make one with `kvctl backup create {}`",
                path_, path_);
  BALLAST_TRY(const auto names, list_directory(backups_path(path_)));
  std::vector<Listed> all;
  for (const std::string& name : names) {
    auto read = manifest(name);
    if (!read && read.error().code == Errc::kNotFound) continue;
    all.push_back({name, std::move(read)});
  }
  std::ranges::sort(all, {}, [](const Listed& one) {
    return std::pair(one.manifest ? one.manifest->created : std::string(), one.name);
  });
  return all;
}

Result<Manifest> BackupDirectory::find(const std::string& name) const {
  if (!name.empty()) {
    BALLAST_TRY_STATUS(check_name(name));
    auto found = manifest(name);
    if (found || found.error().code != Errc::kNotFound) return found;
    return fail(Errc::kNotFound, "'{}' holds no backup '{}': see `kvctl backup list {}`", path_,
                name, path_);
  }
  BALLAST_TRY(const auto all, list());
  if (all.empty()) return fail(Errc::kNotFound, "'{}' holds no whole backup", path_);
  if (!all.front().manifest)
    return fail_within(all.front().manifest.error(),
                       "the newest backup is not known, give its name");
  return all.back().manifest;
}

Result<RowsReader> BackupDirectory::rows(const std::string& name) const {
  return RowsReader::open(rows_path(name));
}

Result<Bytes> BackupDirectory::block(const pb::BlockRef& reference) const {
  BALLAST_TRY(const Digest digest, Digest::from_raw(reference.digest()));
  const std::string path = block_path(path_, digest);
  BALLAST_TRY(const UniqueFd file, open_existing(path));
  BALLAST_TRY(const uint64_t size, file_bytes(file));
  MutableBytes bytes(size == reference.length() ? size : 0);
  BALLAST_TRY_STATUS(read_fully(file, bytes.span(), 0));
  if (size != reference.length() || sha256(bytes.span()) != digest)
    return fail(Errc::kCorrupt, "'{}' holds other bytes than its name says", path);
  return Bytes(std::move(bytes));
}

// ---- NewBackup ----------------------------------------------------------------------------------

Result<NewBackup> NewBackup::open(const std::string& path, const std::string& name) {
  BALLAST_TRY_STATUS(check_name(name));
  BALLAST_TRY_STATUS(check_ours(path));
  BALLAST_TRY_STATUS(make_directories(blocks_path(path)));
  BALLAST_TRY_STATUS(make_directories(backups_path(path)));
  BALLAST_TRY(UniqueFd held, lock(path));
  BALLAST_TRY_STATUS(remove_unfinished(path));
  BackupDirectory directory(path);
  std::error_code error;
  if (fs::exists(directory.manifest_path(name), error))
    return fail(Errc::kConflict, "'{}' holds a backup '{}' already: choose another name", path,
                name);
  BALLAST_TRY_STATUS(make_directories(backups_path(path) + "/" + name));
  return NewBackup(std::move(held), std::move(directory), name);
}

Result<RowsWriter> NewBackup::begin() const {
  return RowsWriter::create(directory_.rows_path(name_));
}

Status NewBackup::put_block(const pb::BlockRef& reference, std::span<const std::byte> bytes) const {
  BALLAST_TRY(const Digest digest, Digest::from_raw(reference.digest()));
  if (bytes.size() != reference.length() || sha256(bytes) != digest)
    return fail(Errc::kCorrupt, "what came as block {} is something else", digest.brief());
  const std::string path = block_path(directory_.path(), digest);
  const std::string folder = fs::path(path).parent_path();
  if (!path_exists(folder)) BALLAST_TRY_STATUS(make_directories(folder));
  return write_file(path, bytes);
}

Status NewBackup::finish(const Manifest& manifest) const {
  // The files are durable, their names are not yet.
  const std::string blocks = blocks_path(directory_.path());
  BALLAST_TRY(const auto directories, list_directory(blocks));
  for (const std::string& two : directories) BALLAST_TRY_STATUS(sync_directory(blocks + "/" + two));
  const std::string own = backups_path(directory_.path()) + "/" + name_;
  BALLAST_TRY_STATUS(sync_directory(own));
  BALLAST_TRY_STATUS(write_file(directory_.manifest_path(name_), as_byte_span(render(manifest))));
  return sync_directory(own);
}

// ---- removal ------------------------------------------------------------------------------------

Result<Removed> remove_backup(const std::string& path, const std::string& name) {
  BALLAST_TRY_STATUS(check_name(name));
  const BackupDirectory directory(path);
  if (const auto all = directory.list(); !all) return std::unexpected(all.error());
  BALLAST_TRY(const UniqueFd held, lock(path));
  const std::string manifest = directory.manifest_path(name);
  if (!path_exists(fs::path(manifest).parent_path()))
    return fail(Errc::kNotFound, "'{}' holds no backup '{}': see `kvctl backup list {}`", path,
                name, path);
  BALLAST_TRY(const auto named, named_by_others(directory, name));
  BALLAST_TRY_STATUS(remove_file(manifest));
  BALLAST_TRY_STATUS(sync_directory(fs::path(manifest).parent_path().string()));
  BALLAST_TRY(const Removed removed, remove_all_but(path, named));
  BALLAST_TRY_STATUS(remove_rows(path, name));
  BALLAST_TRY_STATUS(remove_unfinished(path));
  return removed;
}

}  // namespace ballast::backup
