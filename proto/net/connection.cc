#include "proto/net/connection.h"

#include <google/protobuf/message_lite.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <charconv>

#include "proto/base/check.h"
#include "proto/base/crc32c.h"
#include "proto/base/limits.h"

namespace ballast::net {
namespace {

constexpr auto kStallLimit = std::chrono::seconds(10);  // a frame that stops halfway
constexpr auto kWatchdogPeriod = std::chrono::milliseconds(50);
// Of a transfer in one system call: after each, progress is noted.
constexpr size_t kPieceBytes = 64 * limits::kKiB;
constexpr size_t kGatherFrames = 32;
constexpr size_t kGatherBytes = 4 * limits::kMiB;

// What a transfer may take: ten seconds, and the time that 100 KiB/s need.
Clock::duration transfer_time(size_t bytes) {
  return kStallLimit + std::chrono::milliseconds(bytes / 100);
}

void set_options(tcp::socket& socket) {
  error_code ignored;  // an option that the system lacks costs latency, not correctness
  socket.set_option(tcp::no_delay(true), ignored);
  socket.set_option(asio::socket_base::keep_alive(true), ignored);
  const auto set = [&](int option, int value) {
    ::setsockopt(socket.native_handle(), IPPROTO_TCP, option, &value, sizeof value);
  };
  // A machine that vanished without a word is noticed within about ten seconds.
  set(TCP_USER_TIMEOUT, 10'000);
  set(TCP_KEEPIDLE, 4);
  set(TCP_KEEPINTVL, 2);
  set(TCP_KEEPCNT, 3);
}

std::string describe(const tcp::socket& socket) {
  error_code error;
  const auto remote = socket.remote_endpoint(error);
  if (error) return "a closed connection";
  return fmt::format("{}:{}", remote.address().to_string(), remote.port());
}

// A completion condition: all bytes, and the time is noted whenever some came. It is not asked
// after the last ones.
auto noting(Clock::time_point& when) {
  return [&when](const error_code& error, size_t moved) -> size_t {
    if (!error && moved > 0) when = Clock::now();
    return error ? 0 : kPieceBytes;
  };
}

}  // namespace

std::string Endpoint::to_string() const {
  const bool v6 = host.find(':') != std::string::npos;
  return v6 ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

Result<Endpoint> parse_endpoint(std::string_view text) {
  const auto bad = [&] {
    return fail(Errc::kInvalidArgument, "'{}' is not an endpoint; write HOST:PORT", text);
  };
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return bad();
  std::string_view host = text.substr(0, colon);
  const std::string_view port = text.substr(colon + 1);
  if (host.front() == '[' && host.back() == ']' && host.size() > 2)
    host = host.substr(1, host.size() - 2);
  else if (host.find(':') != std::string_view::npos)
    return bad();
  const auto plain = [](char c) { return static_cast<unsigned char>(c) > ' ' && c != 0x7F; };
  if (!std::ranges::all_of(host, plain)) return bad();
  Endpoint endpoint{.host = std::string(host)};
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), endpoint.port);
  if (error != std::errc() || end != port.data() + port.size() || endpoint.port == 0) return bad();
  return endpoint;
}

OutgoingFrame make_frame(wire::FrameType type, uint64_t stream,
                         const google::protobuf::MessageLite& message, std::vector<Bytes> payload,
                         std::optional<uint32_t> payload_crc) {
  OutgoingFrame frame;
  frame.message = message.SerializeAsString();
  frame.payload = std::move(payload);
  uint32_t crc = 0;
  size_t payload_bytes = 0;
  for (const Bytes& part : frame.payload) {
    payload_bytes += part.size();
    if (!payload_crc) crc = crc32c(part.span(), crc);
  }
  BALLAST_CHECK(frame.message.size() <= limits::kFrameHeaderBytesMax, "{} bytes of message",
                frame.message.size());
  BALLAST_CHECK(payload_bytes <= limits::kFramePayloadBytesMax, "{} bytes of payload",
                payload_bytes);
  frame.header = {.type = type,
                  .stream = stream,
                  .message_bytes = static_cast<uint32_t>(frame.message.size()),
                  .payload_bytes = static_cast<uint32_t>(payload_bytes),
                  .message_crc = crc32c(as_byte_span(frame.message)),
                  .payload_crc = payload_crc.value_or(crc)};
  return frame;
}

bool parse_frame(const wire::Frame& frame, google::protobuf::MessageLite& message) {
  return message.ParseFromArray(frame.message.data(), static_cast<int>(frame.message.size()));
}

Connection::Connection(tcp::socket socket)
    : socket_(std::move(socket)),
      peer_(describe(socket_)),
      watchdog_timer_(socket_.get_executor()),
      queue_signal_(socket_.get_executor()),
      drained_signal_(socket_.get_executor()),
      progress_{Clock::now(), Clock::now()} {
  set_options(socket_);
}

Connection::~Connection() = default;

std::shared_ptr<Connection> Connection::start(tcp::socket socket) {
  std::shared_ptr<Connection> connection(new Connection(std::move(socket)));
  const auto executor = connection->socket_.get_executor();
  asio::co_spawn(executor, [connection] { return connection->write_loop(); }, asio::detached);
  asio::co_spawn(executor, [connection] { return connection->watchdog(); }, asio::detached);
  return connection;
}

asio::awaitable<Result<std::shared_ptr<Connection>>> Connection::connect(
    asio::any_io_executor executor, Endpoint endpoint, Clock::time_point deadline) {
  tcp::resolver resolver(executor);
  tcp::socket socket(executor);
  Timer timer(executor, deadline);
  bool late = false;
  timer.async_wait([&](error_code error) {
    if (error) return;
    late = true;
    resolver.cancel();
    error_code ignored;
    socket.close(ignored);
  });
  auto [resolve_error, addresses] = co_await resolver.async_resolve(
      endpoint.host, std::to_string(endpoint.port), tcp::resolver::numeric_service, kToken);
  error_code error = resolve_error;
  if (!error) {
    auto [connect_error, address] = co_await asio::async_connect(socket, addresses, kToken);
    error = connect_error;
  }
  // The handler above refers to this frame: it must have run or been dropped before we leave.
  if (!late && timer.cancel() == 0) co_await asio::post(executor, kToken);
  if (error || late)
    co_return fail(Errc::kUnavailable, "cannot connect to {}: {}", endpoint.to_string(),
                   late ? "no answer in time" : error.message());
  co_return start(std::move(socket));
}

bool Connection::send(OutgoingFrame frame) {
  // One frame is always taken, so that a frame of the maximum size can't starve.
  if (closed_ || (!queue_.empty() && queued_bytes_ + frame.bytes() > limits::kSendQueueBytesMax))
    return false;
  queued_bytes_ += frame.bytes();
  queue_.push_back(std::move(frame));
  queue_signal_.notify();
  return true;
}

asio::awaitable<bool> Connection::drained(size_t bytes, Clock::time_point deadline) {
  const auto self = shared_from_this();
  while (!closed_ && queued_bytes_ >= bytes) {
    if (!co_await drained_signal_.wait_until(deadline)) break;
  }
  co_return !closed_ && queued_bytes_ < bytes;
}

// Collects frames from the front of the queue; returns how many.
size_t Connection::gather(std::vector<asio::const_buffer>& buffers,
                          std::vector<std::array<std::byte, wire::kFrameHeaderBytes>>& headers) {
  buffers.clear();
  headers.clear();
  size_t frames = 0, bytes = 0;
  for (; frames < queue_.size() && frames < kGatherFrames && bytes < kGatherBytes; ++frames) {
    const OutgoingFrame& frame = queue_[frames];
    headers.push_back(wire::encode_frame_header(frame.header));
    buffers.emplace_back(headers.back().data(), headers.back().size());
    buffers.emplace_back(frame.message.data(), frame.message.size());
    for (const Bytes& part : frame.payload) buffers.emplace_back(part.data(), part.size());
    bytes += frame.bytes();
  }
  return frames;
}

asio::awaitable<void> Connection::write_loop() {
  std::vector<asio::const_buffer> buffers;
  std::vector<std::array<std::byte, wire::kFrameHeaderBytes>> headers;
  headers.reserve(kGatherFrames);  // `buffers` points into it
  while (!closed_) {
    if (queue_.empty()) {
      co_await queue_signal_.wait_until(Clock::time_point::max());
      continue;
    }
    const size_t frames = gather(buffers, headers);
    write_deadline_ = Clock::now() + transfer_time(asio::buffer_size(buffers));
    const uint64_t written_before = written_bytes_;
    const auto note = [&](const error_code& failed, size_t moved) {
      written_bytes_ = written_before + moved;
      return failed ? 0 : kPieceBytes;
    };
    auto [error, written] = co_await asio::async_write(socket_, buffers, note, kToken);
    write_deadline_ = Clock::time_point::max();
    written_bytes_ = written_before + written;
    for (size_t i = 0; i < frames; ++i) {
      queued_bytes_ -= queue_.front().bytes();
      queue_.pop_front();
    }
    drained_signal_.notify();
    if (error) close();
  }
}

// Closes the socket when a deadline has passed: cheaper than a timer for each operation.
asio::awaitable<void> Connection::watchdog() {
  while (!closed_) {
    watchdog_timer_.expires_after(kWatchdogPeriod);
    co_await watchdog_timer_.async_wait(kToken);
    if (!closed_ && Clock::now() >= std::min(read_deadline_, write_deadline_)) {
      timed_out_ = true;
      close();
    }
  }
}

asio::awaitable<Status> Connection::read_exactly(std::byte* data, size_t size) {
  auto [error, got] =
      co_await asio::async_read(socket_, asio::buffer(data, size), noting(progress_.heard), kToken);
  if (got > 0) progress_.heard = Clock::now();
  if (!error) co_return Status{};
  const bool late = timed_out_;
  close();
  if (late) co_return fail(Errc::kDeadline, "{} did not answer in time", peer_);
  if (error == asio::error::eof)
    co_return fail(Errc::kUnavailable, "{} closed the connection", peer_);
  co_return fail(Errc::kUnavailable, "the connection to {} broke: {}", peer_, error.message());
}

asio::awaitable<Result<wire::Frame>> Connection::receive(Clock::time_point deadline,
                                                         size_t payload_max) {
  const auto self = shared_from_this();
  std::array<std::byte, wire::kFrameHeaderBytes> raw;
  read_deadline_ = deadline;
  BALLAST_CO_TRY_STATUS(co_await read_exactly(raw.data(), raw.size()));
  auto header = wire::decode_frame_header(raw);
  if (header && header->payload_bytes > payload_max)
    header = fail(Errc::kInvalidArgument, "a payload of {} bytes where at most {} are allowed",
                  header->payload_bytes, payload_max);
  if (!header) {
    close();
    co_return fail_within(std::move(header).error(), "from {}", peer_);
  }
  wire::Frame frame{.header = *header};
  MutableBytes message(frame.header.message_bytes), payload(frame.header.payload_bytes);
  read_deadline_ = Clock::now() + transfer_time(message.size() + payload.size());
  std::array<asio::mutable_buffer, 2> buffers = {asio::buffer(message.data(), message.size()),
                                                 asio::buffer(payload.data(), payload.size())};
  auto [error, got] = co_await asio::async_read(socket_, buffers, noting(progress_.heard), kToken);
  read_deadline_ = Clock::time_point::max();
  if (got > 0) progress_.heard = Clock::now();
  if (error) {
    close();
    co_return fail(Errc::kUnavailable, "the connection to {} broke: {}", peer_, error.message());
  }
  frame.message = Bytes(std::move(message));
  frame.payload = Bytes(std::move(payload));
  if (crc32c(frame.message.span()) != frame.header.message_crc ||
      crc32c(frame.payload.span()) != frame.header.payload_crc) {
    close();
    co_return fail(Errc::kCorrupt, "a frame from {} does not match its checksum", peer_);
  }
  co_return frame;
}

Connection::Progress Connection::progress() {
  if (closed_) return progress_;
  // What the system has taken from us may still wait here for a peer that takes nothing.
  int waiting = 0;
  if (::ioctl(socket_.native_handle(), TIOCOUTQ, &waiting) == 0) {
    const uint64_t taken =
        written_bytes_ - std::min(written_bytes_, static_cast<uint64_t>(std::max(waiting, 0)));
    if (taken > taken_bytes_) progress_.taken = Clock::now();
    taken_bytes_ = std::max(taken_bytes_, taken);
  }
  error_code ignored;
  if (socket_.available(ignored) > 0) progress_.heard = Clock::now();
  return progress_;
}

void Connection::close() {
  if (closed_) return;
  closed_ = true;
  error_code ignored;
  socket_.close(ignored);
  watchdog_timer_.cancel();
  queue_signal_.notify();
  drained_signal_.notify();
}

}  // namespace ballast::net
