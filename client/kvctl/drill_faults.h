// What a drill does to a cluster: one class for each scenario, the rounds are the same for all.
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "client/client.h"
#include "client/kvctl/drill.h"
#include "client/kvctl/local_cluster.h"
#include "proto/base/result.h"

namespace ballast::kvctl {

// One fault, round after round. The calls come in the order in which they stand here; undo() may
// come at any time, to leave the cluster whole after an error.
class Fault {
 public:
  virtual ~Fault() = default;

  // Everything that takes time before the blow.
  virtual Status aim(const LocalNode& primary) = 0;
  // The blow: one system call for each process, or a request that is sent.
  virtual Status strike() = 0;
  // Waits until it has taken hold.
  virtual Status await_effect() = 0;
  // Ends it; does nothing if nothing is to be undone.
  virtual Status undo() = 0;

  // False if no write can be acknowledged before undo().
  virtual bool survivable() const = 0;
  // How long writes must go on without the primary, acknowledged again, before undo().
  virtual std::chrono::milliseconds hold() const = 0;
  // "is killed", for a person who waits.
  virtual std::string_view deed() const = 0;
};

// `cluster` and `client` must outlive it.
std::unique_ptr<Fault> make_fault(const DrillOptions& options, LocalCluster& cluster,
                                  client::Client& client, std::filesystem::path ballastd);

}  // namespace ballast::kvctl
