// The codec of each tensor that 'kvctl import' writes.
#pragma once

#include <string>

#include "client/client.h"

namespace ballast::kvctl {

// "int4" (and "int4:group=N"): matrices int4, other floats f16. "f32", "f16", "bf16": every float.
// "exact": nothing changes; an empty policy. Errors: kInvalidArgument.
Result<client::CodecPolicy> import_policy(const std::string& codec);

// f16 ends at 65504, and an overflow would turn a bias or a running variance into infinity. The
// policy that this returns reads each tensor of fewer than two dimensions that `policy` gives to
// f16, piece by piece, and keeps it exactly if a finite value of it does not fit.
client::CodecPolicy without_f16_overflow(client::CodecPolicy policy);

}  // namespace ballast::kvctl
