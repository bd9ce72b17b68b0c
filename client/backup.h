// Backups of a cluster, while it runs (docs/formats/backup.md).
#pragma once

#include <cstdint>
#include <string>

#include "client/client.h"
#include "proto/backup/manifest.h"
#include "proto/base/result.h"

namespace ballast::client {

struct BackupOptions {
  std::string directory;  // of all backups; blocks that it holds are not fetched again
  std::string name;       // empty: the time, like 20261127T015500Z
  Progress progress;      // in the blocks' encoded bytes
};

struct BackupReport {
  backup::Manifest manifest;
  uint64_t new_blocks = 0;  // that were fetched and written
  uint64_t new_bytes = 0;
  uint64_t shared_blocks = 0;  // that were there, and whole
  uint64_t shared_bytes = 0;
  int attempts = 1;  // how often it began
};

// Writes the state of one entry of the log, which shows every write that was acknowledged before
// this was called: the rows from one replica, the blocks from all of them. Holds
// Options::window_blocks blocks at a time. If a replica goes away, or a block is deleted meanwhile,
// it begins anew with newer rows, a few times. Whatever breaks it off, what the directory holds
// stays whole, and the blocks that have come are of use for the next one.
// Errors: those of Client::connect(); kUnavailable, kNotFound, kCorrupt if no attempt came to its
// end; kConflict, kRefused as backup::NewBackup::open(); kIo, kNoSpace.
Result<BackupReport> create_backup(const Options& cluster, const BackupOptions& options);

}  // namespace ballast::client
