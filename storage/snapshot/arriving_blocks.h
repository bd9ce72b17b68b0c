// Where the blocks of a snapshot are written as they arrive: once, into segments as the log's, of
// which they stay the homes (docs/formats/snapshot.md).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>

#include "proto/base/bytes.h"
#include "proto/base/result.h"
#include "proto/base/strong_int.h"
#include "proto/storage.pb.h"
#include "storage/blocks/payloads.h"

namespace ballast::storage {

class ArrivingBlocks {
 public:
  virtual ~ArrivingBlocks() = default;
  // Writes a block, whose bytes are known to be the reference's. Its place is good for ever once
  // sync() has returned. On any thread, several at once. Errors: kIo, kNoSpace.
  virtual Result<Place> add(const pb::BlockRef& reference, const Bytes& bytes) = 0;
  // What was added before this call is durable when it returns. Any thread. Error kIo: then it is
  // not known what is durable, and nothing that is added later may be taken for it either.
  virtual Status sync() = 0;
  // Of what earlier attempts have left, these segments are still of use, and no others: those are
  // removed. REQUIRES: nothing is being added. Errors: kIo; kCorrupt if one of them is missing.
  virtual Status keep(const std::set<uint64_t>& segments) = 0;
  // Nothing more is added: what was is durable, and the space behind the last one is given back.
  // Error kIo.
  virtual Status seal() = 0;
};

// What a block takes of the disk.
uint64_t arriving_bytes(const pb::BlockRef& reference);

struct ArrivingOptions {
  std::string directory;  // that of the segments; made if it is missing
  std::string log;        // of the log that will take them over; its segments have other numbers
  uint64_t segment_bytes = 0;
  // Whether a segment of so many bytes may be made. Null: as many as fit.
  std::function<Status(uint64_t bytes)> may_take = nullptr;
  GroupId group{1};
};
// Nobody else may use the directory. Error kIo.
Result<std::unique_ptr<ArrivingBlocks>> open_arriving_blocks(ArrivingOptions options);

// Moves the segments from the one directory to the log's, durably. A crash on the way leaves some
// here and some there; then it is called again. Nobody may have them or the log open. Error kIo.
Status take_over_segments(const std::string& from, const std::string& log);

}  // namespace ballast::storage
