// What the clients saw, and whether a store that keeps its promises could have shown it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "proto/base/digest.h"
#include "proto/base/entry.h"
#include "proto/base/result.h"
#include "proto/service.pb.h"

namespace ballast::sim {

inline constexpr uint64_t kNever = UINT64_MAX;

// A commit with its block, under one session and sequence, however often it was sent.
struct WriteRecord {
  std::string session;
  uint64_t sequence = 0;
  uint64_t invoked_us = 0;
  uint64_t completed_us = kNever;  // when a result was known
  std::optional<uint32_t> code;    // of the ApplyResult, once known
  uint64_t index = 0;              // of the ApplyResult
};

// A place in the log that was acknowledged as durable.
struct AckRecord {
  Index index;
  Term term;
  uint64_t at_us = 0;
};

// A read of a key, linearizable or bounded.
struct ReadRecord {
  std::string key;
  bool bounded = false;
  uint64_t shows_us = 0;  // everything that was acknowledged before (staleness.h)
  Index applied;          // what the node had applied when it read
  uint64_t revision = 0;  // 0: there was no such key
  std::string digest;     // of its block
};

class History {
 public:
  std::vector<WriteRecord> writes;
  std::vector<AckRecord> acks;
  std::vector<ReadRecord> reads;

  // Compares everything with the committed log, entry 1 first. Returns what is wrong.
  std::vector<std::string> check(const std::vector<Entry>& log) const;
};

}  // namespace ballast::sim
