// The first files of a log, and of one that begins anew.
#pragma once

#include "proto/base/result.h"
#include "proto/base/unique_fd.h"
#include "storage/log/log_base.h"
#include "storage/log/recovery.h"
#include "storage/log/segment_file.h"
#include "storage/log/segment_log.h"

namespace ballast::storage {

// An empty directory, or one in which this was interrupted, becomes a log. `make_segment` may be
// null. Errors: kIo; kCorrupt if there are segments in use but no hard state.
Status make_log_if_new(const LogOptions& options, const SegmentMaker& make_segment);

// True if the log holds this entry, or held it and has forgotten it.
bool holds(const RecoveredLog& log, const LogBase& at);

// Makes the log begin behind `base`, durably; all its segments become homes. Error kIo.
Status restart_behind(const LogBase& base, const LogOptions& options,
                      const SegmentMaker& make_segment, const UniqueFd& hard_state_file,
                      RecoveredLog& log);

}  // namespace ballast::storage
