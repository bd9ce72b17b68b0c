// Who a data directory belongs to. Written once, when the directory is formatted.
#pragma once

#include <string>

#include "proto/base/result.h"
#include "proto/base/strong_int.h"
#include "proto/base/uuid.h"

namespace ballast::storage {

struct Identity {
  Uuid cluster;
  Uuid node;  // made when the directory is formatted
  Uuid disk;  // likewise: a wiped disk comes back as another one
  NodeId id;  // in the cluster's configuration
  bool operator==(const Identity&) const = default;
};

// Reads DIRECTORY/identity; if the directory is empty or missing, formats it: makes it and writes
// an identity with fresh node and disk UUIDs, durably. Takes a lock on the directory until
// the process ends.
// Errors: kRefused if the directory belongs to another cluster or node id, if it holds files but no
// identity, or if another process has locked it; kCorrupt if the record is damaged; kIo.
class DataDirectory {
 public:
  static Result<DataDirectory> open(const std::string& directory, Uuid cluster, NodeId id);
  DataDirectory(DataDirectory&&) noexcept;
  DataDirectory& operator=(DataDirectory&&) noexcept;
  ~DataDirectory();

  const Identity& identity() const { return identity_; }
  std::string log_path() const { return directory_ + "/log"; }      // made by open()
  std::string state_path() const { return directory_ + "/state"; }  // made by open()

 private:
  DataDirectory() = default;
  std::string directory_;
  Identity identity_;
  int lock_fd_ = -1;
};

}  // namespace ballast::storage
