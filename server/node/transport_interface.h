// How a node speaks to its peers: may lose, delay, reorder and repeat messages, never alters them.
#pragma once

#include "server/raft/message.h"

namespace ballast::server {

class PeerSender {
 public:
  virtual ~PeerSender() = default;
  // Never blocks. Entries of an Append are fetched from the node when it is the message's turn.
  virtual void send(raft::Message message) = 0;
  // The node's newest configuration is another one. Never blocks, and does not call the node.
  virtual void members_changed() {}
};

}  // namespace ballast::server
