// Who a data directory belongs to. Written once, when the directory is formatted.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "proto/base/digest.h"
#include "proto/base/result.h"
#include "proto/base/strong_int.h"
#include "proto/base/unique_fd.h"
#include "proto/base/uuid.h"

namespace ballast::storage {

struct Founder {
  NodeId id;
  std::string name;     // without spaces
  std::string address;  // HOST:PORT
  bool operator==(const Founder&) const = default;
};

struct Identity {
  Uuid cluster;
  Uuid node;  // made when the directory is formatted
  Uuid disk;  // likewise: a wiped disk comes back as another one
  NodeId id;  // in the cluster's configuration
  // The voters that the cluster began with, if this disk is one of theirs. Empty: it came later,
  // and has no vote until the log of a leader gives it one.
  std::vector<Founder> founders;
  bool operator==(const Identity&) const = default;
};

// The text of DIRECTORY/identity (docs/formats/identity.md). Errors: kCorrupt; kRefused for a
// format that this version does not know.
std::string render_identity(const Identity& identity);
Result<Identity> parse_identity(std::string_view text);

// The mark of the state that a founder's disk began with: founders that began with different ones
// must not take part together. It stands in the disk's UUID, so every greeting shows it. Empty: it
// began with nothing. `disk` is the UUID's 16 bytes.
std::string origin_of(std::string_view disk);

// Where a snapshot is brought to, until it is whole.
struct IncomingPaths {
  std::string rows;    // a database; takes the place of the state
  std::string blocks;  // segments that become homes of the log
  std::string log;     // that log
};

// State from elsewhere that a founder begins with.
struct BeginWith {
  Digest origin;  // which state it is
  // Builds it there, durably.
  std::function<Status(const IncomingPaths& incoming)> bring;
};

// Reads DIRECTORY/identity; if the directory is empty or missing, formats it as one that joins a
// cluster later: makes it and writes an identity with fresh node and disk UUIDs, durably. Takes a
// lock on the directory until the object is gone.
// Errors: kRefused if the directory belongs to another cluster or node id, if it holds files but no
// identity, or if another process has locked it; kCorrupt if the record is damaged; kIo.
class DataDirectory {
 public:
  static Result<DataDirectory> open(const std::string& directory, Uuid cluster, NodeId id);
  // Formats an empty or missing directory as a founder's. One that is formatted so already, for the
  // same founders, is left as it is. A wiped disk must never be formatted so again: it would vote
  // as if it had never voted. Errors: as open(); kRefused if it is formatted otherwise.
  // With `with`, the identity is written only when its state is there: until then no node starts
  // with the directory, and the same call goes on with what one that broke off has brought. Errors:
  // also those of bring().
  static Status bootstrap(const std::string& directory, Uuid cluster, NodeId id,
                          std::vector<Founder> founders, const BeginWith* with = nullptr);
  // An existing directory, whosever it is, locked like that of a node: for looking at it. Nothing
  // is formatted. Errors: kNotFound if it holds no identity; kRefused if a node uses it; kCorrupt,
  // kIo.
  static Result<DataDirectory> open_existing(const std::string& directory);
  DataDirectory(DataDirectory&&) noexcept;
  DataDirectory& operator=(DataDirectory&&) noexcept;
  ~DataDirectory();

  const Identity& identity() const { return identity_; }
  std::string log_path() const { return directory_ + "/log"; }      // made by open()
  std::string state_path() const { return directory_ + "/state"; }  // made by open()
  IncomingPaths incoming() const;
  // The segments of incoming() become the log's homes; then the directory of its rows and that of
  // the state change places, at once and durably. Nobody may have one of them open. Error kIo.
  Status install_incoming() const;
  // Removes what incoming() names. Error kIo.
  Status remove_incoming() const;
  // The rows are damaged: they are put aside, and state_path() is empty, durably. Nobody may have
  // it open. Error kIo.
  Status put_rows_aside() const;
  // True until they are removed.
  bool has_rows_put_aside() const;
  // Error kIo.
  Status remove_rows_put_aside() const;

 private:
  DataDirectory() = default;
  static Result<DataDirectory> open_or_format(const std::string& directory, Uuid cluster, NodeId id,
                                              std::vector<Founder> founders, const BeginWith* with);
  static Result<DataDirectory> keep(const std::string& directory, Identity identity,
                                    const UniqueFd& lock);
  Status exchange(const std::string& with) const;

  std::string directory_;
  Identity identity_;
  int lock_fd_ = -1;
};

}  // namespace ballast::storage
