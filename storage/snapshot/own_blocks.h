// Blocks that a node still has when its rows are lost: those in its log's segments.
#pragma once

#include <string>

#include "proto/base/result.h"
#include "proto/base/strong_int.h"
#include "storage/kv/row_store.h"

namespace ballast::storage {

// Writes the place of each Block entry's payload as a row of kind kPlace, for a snapshot to take
// the blocks from there. Their payloads are not looked at: who reads them notices damage. A segment
// whose records can't be read or followed gives those that can. Blocks on the disk. Errors: kIo.
Status note_places(const std::string& log_directory, GroupId group, RowStore& rows);

}  // namespace ballast::storage
