// A backup on its way into the data directory of a new cluster's founder: as a snapshot that comes
// from files (docs/formats/backup.md).
#pragma once

#include "proto/backup/directory.h"
#include "proto/base/result.h"
#include "storage/snapshot/incoming.h"

namespace ballast::server {

// Builds a database of the backup's rows, without its members, and of the blocks that they name. It
// is durable when this returns, and settle_incoming() installs it at the node's first start. What
// an earlier call that broke off has brought is kept. Blocks.
// Errors: kCorrupt, kNotFound if the backup is damaged; kRefused if its rows are of a format that
// this version does not know; kIo, kNoSpace.
Status restore(const backup::BackupDirectory& directory, const backup::Manifest& manifest,
               const storage::IncomingOptions& incoming);

}  // namespace ballast::server
