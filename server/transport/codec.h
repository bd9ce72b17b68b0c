// Raft messages as protobuf, and back (proto/peer.proto).
#pragma once

#include <vector>

#include "proto/base/entry.h"
#include "proto/base/result.h"
#include "proto/peer.pb.h"
#include "server/raft/message.h"

namespace ballast::server {

// `entries` are those of an Append, with their bytes; their payloads are not part of the message.
pb::PeerMessage to_wire(const raft::Message& message, const std::vector<Entry>& entries);

struct Received {
  raft::Message message;
  std::vector<Entry> entries;
};
// `payload` holds the payloads of an Append's entries, one after the other. Errors: kCorrupt.
Result<Received> from_wire(const pb::PeerMessage& wire, NodeId from, NodeId to,
                           const Bytes& payload);

}  // namespace ballast::server
