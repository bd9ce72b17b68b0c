// Reads a whole backup and says what of it is damaged.
#pragma once

#include <string>
#include <unordered_set>
#include <vector>

#include "proto/backup/directory.h"

namespace ballast::backup {

struct Damage {
  std::string what;  // "manifest", "rows", "block"
  Digest block;      // of a block
  std::string why;
};

struct Verified {
  std::string name;
  uint64_t pages = 0;   // of rows, that are whole
  uint64_t blocks = 0;  // that are whole
  uint64_t bytes = 0;   // of these
  std::vector<Damage> damage;
};

// Blocks that `whole` names are not read again; those that are found whole come into it, so that
// several backups share the work. Errors: kIo; damage is none.
Result<Verified> verify(const BackupDirectory& directory, const BackupDirectory::Listed& backup,
                        std::unordered_set<Digest>& whole);

}  // namespace ballast::backup
