// A TCP connection that carries frames, with a bounded send queue and a deadline on every wait.
//
// All calls on the connection's executor (one thread). A connection that failed stays failed:
// close it and make another one.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "proto/base/limits.h"
#include "proto/base/result.h"
#include "proto/net/asio.h"
#include "proto/net/event.h"
#include "proto/wire/frame.h"

namespace google::protobuf {
class MessageLite;
}

namespace ballast::net {

struct Endpoint {
  std::string host;
  uint16_t port = 0;

  std::string to_string() const;
};
// "127.0.0.1:7400", "[::1]:7400", "node1:7400". Errors: kInvalidArgument.
Result<Endpoint> parse_endpoint(std::string_view text);

// A frame that is to be sent. Payload parts follow each other without a copy.
struct OutgoingFrame {
  wire::FrameHeader header;
  std::string message;
  std::vector<Bytes> payload;

  size_t bytes() const {
    return wire::kFrameHeaderBytes + header.message_bytes + header.payload_bytes;
  }
};

// Fills in lengths and checksums. `payload_crc` is the CRC32C of the payload if it is known.
// REQUIRES: message and payload are within the limits.
OutgoingFrame make_frame(wire::FrameType type, uint64_t stream,
                         const google::protobuf::MessageLite& message,
                         std::vector<Bytes> payload = {},
                         std::optional<uint32_t> payload_crc = std::nullopt);

// True if a received frame's message parses as `message`.
bool parse_frame(const wire::Frame& frame, google::protobuf::MessageLite& message);

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  // Takes over a connected socket, sets its options and starts the writer.
  static std::shared_ptr<Connection> start(tcp::socket socket);
  // Resolves and connects. Errors: kUnavailable with the endpoint in the message.
  static asio::awaitable<Result<std::shared_ptr<Connection>>> connect(
      asio::any_io_executor executor, Endpoint endpoint, Clock::time_point deadline);

  ~Connection();

  // Queues a frame. False if the connection is closed or its queue is full (the frame is dropped).
  bool send(OutgoingFrame frame);
  size_t queued_bytes() const { return queued_bytes_; }

  // Waits until less than `bytes` are queued. False if closed or late.
  asio::awaitable<bool> drained(size_t bytes, Clock::time_point deadline);

  // The next frame. The first byte may take until `deadline`; the rest of the frame must come at
  // 100 KiB/s at least. Errors: kUnavailable (closed by the peer), kDeadline, kCorrupt, kRefused,
  // kInvalidArgument (a payload over `payload_max`, before memory is taken for it).
  asio::awaitable<Result<wire::Frame>> receive(Clock::time_point deadline,
                                               size_t payload_max = limits::kFramePayloadBytesMax);

  // When the peer last gave a sign of life, byte by byte: a slow link is not a dead one. What the
  // system has acknowledged or received meanwhile is looked up by the call, and dated with it.
  struct Progress {
    Clock::time_point heard;  // a byte came
    Clock::time_point taken;  // the peer's side acknowledged a byte of ours
  };
  Progress progress();

  void close();
  bool closed() const { return closed_; }
  std::string peer() const { return peer_; }

 private:
  explicit Connection(tcp::socket socket);
  asio::awaitable<void> write_loop();
  asio::awaitable<void> watchdog();
  asio::awaitable<Status> read_exactly(std::byte* data, size_t size);
  size_t gather(std::vector<asio::const_buffer>& buffers,
                std::vector<std::array<std::byte, wire::kFrameHeaderBytes>>& headers);

  tcp::socket socket_;
  std::string peer_;
  Timer watchdog_timer_;
  Signal queue_signal_;    // frames were queued, or the connection closed
  Signal drained_signal_;  // frames were written, or the connection closed
  std::deque<OutgoingFrame> queue_;
  size_t queued_bytes_ = 0;
  uint64_t written_bytes_ = 0;  // to the system
  uint64_t taken_bytes_ = 0;    // of them, known to have been acknowledged
  Progress progress_;
  Clock::time_point read_deadline_ = Clock::time_point::max();
  Clock::time_point write_deadline_ = Clock::time_point::max();
  bool timed_out_ = false;
  bool closed_ = false;
};

}  // namespace ballast::net
