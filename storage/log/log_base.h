// The place behind which a log begins.
#pragma once

#include <cstdint>

#include "proto/base/strong_int.h"

namespace ballast::storage {

// Whoever begins a log there says the term and the chain value of the core (raft::Core::chain_at):
// the entries that would tell them are gone.
struct LogBase {
  Index index;
  Term term;
  uint32_t chain = 0;
  bool operator==(const LogBase&) const = default;
};

}  // namespace ballast::storage
