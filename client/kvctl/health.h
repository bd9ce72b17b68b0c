// What the answers of all nodes mean for the cluster: pure, so that tests can try every case.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "client/client.h"

namespace ballast::kvctl {

struct Health {
  std::string state;  // "healthy", "degraded", "down"
  std::string text;   // who leads since when, who is missing, what may still be lost
  size_t up = 0;      // nodes that answer us and that the leader hears
  size_t quorum = 0;
  size_t losses_tolerated = 0;  // nodes that may fail now and writes go on
};
Health health_of(const client::ClusterStatus& cluster);

// What the leader has still to ship to `node`; nothing for the leader itself and without a leader.
std::optional<uint64_t> lag_bytes(const client::ClusterStatus& cluster,
                                  const client::NodeStatus& node);

// "3 d 4 h", "5 h 12 min", "2 min 5 s", "7 s"
std::string duration_text(uint64_t ms);

// States are comparable where the applied index is equal: "differ" if two such nodes differ,
// "equal" if all that answer stand at one index, else "not_compared".
std::string compare_states(const std::vector<client::VerifyReport>& reports);

// Errors: kCorrupt (a block is damaged, states differ), kUnavailable (a node did not answer, so it
// is not known).
Status verdict_of(const std::vector<client::VerifyReport>& reports, const std::string& states);

}  // namespace ballast::kvctl
