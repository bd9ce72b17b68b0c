// A directory of backups: who wants to know how its files look reads docs/formats/backup.md.
//
//   DIR/blocks/ab/<64 hex digits>   a block, named by its SHA-256; shared by all backups
//   DIR/backups/NAME/rows           pages of rows
//   DIR/backups/NAME/manifest.json  comes last and goes first: without it there is no backup
//   DIR/LOCK                        held by whoever changes something
//
// Everything blocks. Errors of all functions: kIo, kNoSpace.
#pragma once

#include <string>
#include <vector>

#include "proto/backup/manifest.h"
#include "proto/backup/rows_file.h"
#include "proto/base/bytes.h"
#include "proto/base/result.h"
#include "proto/base/unique_fd.h"
#include "proto/storage.pb.h"

namespace ballast::backup {

// Reads; takes no lock, so it works on a medium that can't be written. Thread-safe.
class BackupDirectory {
 public:
  explicit BackupDirectory(std::string path) : path_(std::move(path)) {}

  const std::string& path() const { return path_; }

  struct Listed {
    std::string name;
    Result<Manifest> manifest;  // kCorrupt, kRefused: why it can't be read
  };
  // The oldest first; those whose manifest can't be read before all others. Error kNotFound if
  // this is no directory of backups.
  Result<std::vector<Listed>> list() const;
  // Empty name: the newest. Errors: kNotFound; kCorrupt, kRefused, also for the newest if there is
  // one that can't be read: that could be it.
  Result<Manifest> find(const std::string& name) const;
  // Errors: kNotFound, kIo.
  Result<RowsReader> rows(const std::string& name) const;
  // Errors: kNotFound if there is no such file; kCorrupt if it holds other bytes.
  Result<Bytes> block(const pb::BlockRef& reference) const;

  std::string manifest_path(const std::string& name) const;
  std::string rows_path(const std::string& name) const;

 private:
  Result<Manifest> manifest(const std::string& name) const;

  std::string path_;
};

// A backup that is being made. It exists once finish() has returned; without that, what is there
// is of use for the next one. Move-only.
class NewBackup {
 public:
  // Makes the directory if it is missing, locks it, and removes what is left of backups that were
  // never finished, but for their blocks. Errors: kConflict if there is a backup of this name;
  // kRefused if another program changes the directory, or it holds other things.
  static Result<NewBackup> open(const std::string& path, const std::string& name);

  const std::string& name() const { return name_; }
  const BackupDirectory& directory() const { return directory_; }
  // Begins with the rows, or begins anew with others.
  Result<RowsWriter> begin() const;
  // Replaces a file of that name. Each block by one thread at a time. Error kCorrupt if these are
  // not its bytes.
  Status put_block(const pb::BlockRef& reference, std::span<const std::byte> bytes) const;
  // REQUIRES: the rows are finished, and all blocks that they name are there.
  Status finish(const Manifest& manifest) const;

 private:
  NewBackup(UniqueFd lock, BackupDirectory directory, std::string name)
      : lock_(std::move(lock)), directory_(std::move(directory)), name_(std::move(name)) {}

  UniqueFd lock_;
  BackupDirectory directory_;
  std::string name_;
};

struct Removed {
  uint64_t blocks = 0;
  uint64_t bytes = 0;
};
// Removes a backup and then the blocks that no other one names. If it breaks off, the same call
// goes on, and so does that of another backup. Errors: kNotFound; kRefused as NewBackup::open();
// kCorrupt if the rows of another backup can't be read: nothing was removed.
Result<Removed> remove_backup(const std::string& path, const std::string& name);

}  // namespace ballast::backup
