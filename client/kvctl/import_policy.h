// The encoding of each tensor that 'kvctl import' writes.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "client/client.h"

namespace ballast::kvctl {

// The codec to use where none is given: `otherwise`, but sparse4 for what leaves zeros behind.
std::string codec_or_default(const std::string& codec, std::optional<client::PruneSpec> prune,
                             const std::string& otherwise);

// What 'otherwise' is for an import into a section: int4 for "model", lossless for optimizer state
// and all else that is no weights.
std::string default_codec(std::string_view section);

// `codec`: one that quantizes (int4 and its like): matrices get it, other floats f16. Any other:
// every float gets it. "exact": every tensor stays as it is. Only matrices are pruned.
// Errors: kInvalidArgument.
Result<client::EncodingPolicy> import_policy(const std::string& codec,
                                             std::optional<client::PruneSpec> prune);

// Every float gets `codec` and is pruned, of whatever rank it is: for tensors that were named.
// Errors: kInvalidArgument.
Result<client::EncodingPolicy> rule_policy(const std::string& codec,
                                           std::optional<client::PruneSpec> prune);

// f16 ends at 65504, and an overflow would turn a bias or a running variance into infinity. The
// policy that this returns reads each tensor of fewer than two dimensions that `policy` gives to
// f16, piece by piece, and keeps it exactly if a finite value of it does not fit.
client::EncodingPolicy without_f16_overflow(client::EncodingPolicy policy);

}  // namespace ballast::kvctl
