// Reads of planned entries, on any thread.
#pragma once

#include <memory>
#include <vector>

#include "storage/log/locator.h"
#include "storage/log/log_store.h"
#include "storage/log/segment_file.h"

namespace ballast::storage {

struct PlannedEntry {
  SegmentPtr segment;
  Locator locator;
  Index index;
};

std::unique_ptr<LogRead> make_log_read(GroupId group, std::vector<PlannedEntry> plan);

}  // namespace ballast::storage
