// A data directory with content of every kind, and the whole of what can be read of one.
//
// Everything here that opens a store does so in a process of its own: a store that aborts, hangs or
// reads what is not there must not take the test with it, and RocksDB's threads do not survive a
// fork.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "proto/base/digest.h"
#include "proto/base/entry.h"
#include "tests/unit/storage/damage_image.h"

namespace ballast::storage {

struct SampleContent {
  std::vector<Entry> entries;
  std::vector<std::string> keys;
  std::vector<Digest> blocks;
};
// The same for the same number.
SampleContent sample_content(size_t entries);

// What reading a store gave: for each thing that should be there a fingerprint of what is, or the
// error. Things: "vote", "log/7", "key/k3", "keys", "block/ab12...", "rows", "verify".
inline constexpr const char* kAbsent = "absent";
struct Reading {
  std::string refused;  // why the store does not open; then the rest is empty
  std::string died;     // how the process ended, if not by itself
  std::map<std::string, std::string> things;
  std::map<std::string, std::string> errors;
};

// Writes the content through a log and a state machine, the state flushed after each `flush_every`
// entries, as a node does.
struct SampleStore {
  SampleContent content;
  Image closed;  // by a node that was stopped
  // By a node that was killed right after its last entry was acknowledged: nothing on the disk says
  // that this entry was durable (docs/formats/log_segment.md, "What it can't tell").
  Image killed;
  Image moved;     // `closed`, when all blocks have moved into the database
  Image fetching;  // and half of a snapshot of it lies beside it
};
SampleStore make_sample(const std::string& directory, size_t entries, size_t flush_every);

// Opens the directory as a node does, applies what the state lacks, and reads everything.
Reading read_store(const std::string& directory, const SampleContent& content);
// Brings the rest of the snapshot that lies beside the node's state, from that, and reads it.
Reading read_fetched(const std::string& directory, const SampleContent& content);

}  // namespace ballast::storage
