// What a backup is: written last, so a backup without a manifest does not exist
// (docs/formats/backup.md).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "proto/backup/rows_file.h"
#include "proto/base/result.h"
#include "proto/base/uuid.h"

namespace ballast::backup {

inline constexpr unsigned kBackupFormat = 1;

struct Manifest {
  std::string name;
  Uuid cluster;         // that it was made of
  std::string created;  // UTC, "2026-11-27T01:55:00.123Z": backups are ordered by it
  uint32_t chain = 0;   // the log's chain value at the entry that the rows show
  RowsSummary rows;
  bool operator==(const Manifest&) const = default;
};

// Names of backups: 1 to 64 bytes of letters, digits, '.', '_', '-'; not beginning with '.'.
// Error kInvalidArgument.
Status check_name(std::string_view name);

std::string render(const Manifest& manifest);
// Errors: kCorrupt; kRefused for a format that this version does not know.
Result<Manifest> parse_manifest(std::string_view text);

}  // namespace ballast::backup
