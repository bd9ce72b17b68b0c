// What a drill reads after its rounds: every write of its ledger, from the cluster as a whole and
// from each node alone, and the nodes' blocks and states.
#pragma once

#include <filesystem>

#include "client/client.h"
#include "client/kvctl/drill.h"
#include "client/kvctl/ledger.h"
#include "proto/base/result.h"

namespace ballast::kvctl {

// REQUIRES: `client` is connected with `options`. Errors: whatever keeps a write from being judged;
// kCorrupt for a ledger that is not what the drill wrote.
Result<DrillFindings> check_cluster(client::Client& client, const client::Options& options,
                                    const std::filesystem::path& ledger, const LedgerHeader& header,
                                    const DrillNotes& notes);

// Removes the run's keys; when it returns that is durable.
Status remove_keys(client::Client& client, const std::filesystem::path& ledger,
                   const LedgerHeader& header);

}  // namespace ballast::kvctl
