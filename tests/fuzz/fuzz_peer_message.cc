// A peer's message from anybody: an error, or a message that survives the way back.

#include <cstdint>
#include <cstdlib>

#include "server/transport/codec.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ballast;
  if (size == 0) return 0;
  // The first byte says how much of the rest is payload.
  const size_t payload_size = std::min<size_t>(data[0], size - 1);
  const size_t message_size = size - 1 - payload_size;
  pb::PeerMessage wire;
  if (!wire.ParseFromArray(data + 1, static_cast<int>(message_size))) return 0;
  const auto payload =
      Bytes::copy_of(std::as_bytes(std::span(data + 1 + message_size, payload_size)));
  const auto received = server::from_wire(wire, NodeId(1), NodeId(2), payload);
  if (!received) return 0;
  const pb::PeerMessage again = server::to_wire(received->message, received->entries);
  const auto twice = server::from_wire(again, NodeId(1), NodeId(2), payload);
  if (!twice || !(twice->message == received->message)) std::abort();
  return 0;
}
