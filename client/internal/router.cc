#include "client/internal/router.h"

#include <algorithm>
#include <random>
#include <utility>

#include "client/internal/convert.h"
#include "proto/base/limits.h"
#include "proto/net/worker.h"

namespace ballast::client {
namespace {

constexpr milliseconds kPauseMin{10};
constexpr milliseconds kPauseMax{200};
// While a primary is being elected, each pause is an outage that lasts longer; but the rounds must
// not keep the electors busy, neither by their number nor by what they carry.
constexpr milliseconds kElectionPauseMax{50};
constexpr int kElectionRoundsMax = 30;
constexpr size_t kElectionBytesMax = limits::kMiB;

// For requests that are safe to repeat, a lost answer is a reason to ask again.
bool worth_repeating(Errc code) {
  return retryable(code) || code == Errc::kUnknownOutcome || code == Errc::kDeadline ||
         code == Errc::kAckNotReached;
}

template <class Wire>
std::vector<Member> members_of(const google::protobuf::RepeatedPtrField<Wire>& wire) {
  std::vector<Member> members;
  for (const Wire& member : wire) members.push_back(member_from_wire(member));
  return members;
}

}  // namespace

Router::Router(asio::any_io_executor executor, const Options& options)
    : executor_(executor), attempt_timeout_(options.attempt_timeout), pinned_(options.pinned) {}

void Router::close() {
  for (const auto& channel : channels_) channel->close();
}

Clock::time_point Router::attempt_deadline(Clock::time_point deadline) const {
  return std::min(deadline, Clock::now() + attempt_timeout_);
}

asio::awaitable<bool> Router::pause(int round, Clock::time_point deadline, milliseconds most) {
  static thread_local std::minstd_rand random{std::random_device{}()};
  const milliseconds step = std::min(most, kPauseMin * (1 << std::min(round, 10)));
  const auto until = Clock::now() + step / 2 + milliseconds(random() % (step.count() + 1)) / 2;
  if (until >= deadline) co_return false;
  Timer timer(executor_, until);
  co_await timer.async_wait(kToken);
  co_return true;
}

asio::awaitable<Status> Router::connect(std::vector<net::Endpoint> endpoints,
                                        Clock::time_point deadline) {
  std::vector<std::shared_ptr<Channel>> seeds;
  for (const net::Endpoint& endpoint : endpoints)
    seeds.push_back(std::make_shared<Channel>(executor_, endpoint));
  Error last;
  for (int round = 0;; ++round) {
    for (const auto& seed : seeds) {
      const auto greeting = co_await seed->greet(deadline);
      if (!greeting) {
        last = greeting.error();
        continue;
      }
      leader_ = greeting->leader();
      BALLAST_CO_TRY(cluster_, Uuid::from_raw(greeting->cluster()));
      channels_ = pinned_ ? seeds : std::vector{seed};
      adopt(members_of(greeting->members()), greeting->configuration_index());
      if (members_.empty())
        co_return fail(Errc::kUnavailable, "{} names no member that can be asked",
                       seed->endpoint().to_string());
      co_return Status{};
    }
    if (!co_await pause(round, deadline, kPauseMax)) break;
  }
  co_return fail(Errc::kUnavailable, "{}; start the nodes or give other --endpoints", last.message);
}

std::vector<Member> Router::members() const {
  const std::lock_guard lock(members_mutex_);
  return members_;
}

// Channels to addresses that stay are kept, with what is under way on them.
void Router::adopt(std::vector<Member> members, uint64_t configuration_index) {
  if (members.empty()) return;
  if (!pinned_) {
    std::vector<std::shared_ptr<Channel>> channels;
    for (const Member& member : members) {
      auto address = net::parse_endpoint(member.address);
      if (!address) return;  // from another version: what is known goes on being used
      const auto kept = std::ranges::find_if(channels_, [&](const auto& channel) {
        return channel->endpoint().to_string() == address->to_string();
      });
      channels.push_back(kept != channels_.end()
                             ? *kept
                             : std::make_shared<Channel>(executor_, *std::move(address)));
    }
    for (const auto& channel : channels_)
      if (std::ranges::find(channels, channel) == channels.end()) channel->close();
    channels_ = std::move(channels);
  }
  const std::lock_guard lock(members_mutex_);
  members_ = std::move(members);
  configuration_index_ = configuration_index;
}

asio::awaitable<void> Router::refresh(std::shared_ptr<Channel> from) {
  pb::Request request;
  request.set_read(pb::READ_ANY);
  request.mutable_list_members();
  const auto response =
      co_await from->call(std::move(request), {}, {}, attempt_deadline(Clock::time_point::max()));
  refreshing_ = false;
  if (!response) co_return;
  const pb::ListMembersReply& reply = response->reply.list_members();
  if (reply.configuration_index() > configuration_index_)
    adopt(members_of(reply.members()), reply.configuration_index());
}

asio::awaitable<Result<Response>> Router::ask(std::shared_ptr<Channel> target, pb::Request request,
                                              Bytes payload, std::optional<uint32_t> payload_crc,
                                              Clock::time_point deadline) {
  Result<Response> response =
      co_await target->call(std::move(request), std::move(payload), payload_crc, deadline);
  if (target->configuration_index() > configuration_index_ && !std::exchange(refreshing_, true))
    asio::co_spawn(executor_, refresh(target), asio::detached);
  co_return response;
}

// The position to begin with: the primary's, or the next in turn if nobody knows it. Those that are
// down come last: each may cost a second.
size_t Router::leader_position() const {
  for (size_t i = 0; !pinned_ && i < members_.size(); ++i) {
    if (members_[i].id == leader_ && !channel(i)->down()) return i;
  }
  for (size_t i = 0; i < channels_.size(); ++i) {
    const size_t position = (next_ + i) % channels_.size();
    if (!channel(position)->down()) return position;
  }
  return next_ % channels_.size();
}

bool Router::down(uint64_t member) const {
  for (size_t i = 0; !pinned_ && i < members_.size(); ++i) {
    if (members_[i].id == member) return channel(i)->down();
  }
  return false;
}

// Learns from a refusal; true if it names somebody new, who can be asked at once.
bool Router::learn(const Error& error, const Channel& asked, size_t position) {
  // The primary is the right one, but busy, or a voter lags behind it.
  if (error.code == Errc::kOverloaded || error.code == Errc::kAckNotReached) return false;
  const uint64_t before = leader_;
  leader_ = error.code == Errc::kNotLeader ? asked.leader_hint() : 0;
  next_ = position + 1;
  // An outdated hint: whoever gave it has not noticed yet, and nobody else was elected.
  if (down(leader_)) leader_ = 0;
  return leader_ != 0 && leader_ != before;
}

asio::awaitable<Result<Response>> Router::at_leader(pb::Request request, Bytes payload,
                                                    std::optional<uint32_t> payload_crc,
                                                    Clock::time_point deadline) {
  bool maybe_done = false;
  Error last{Errc::kUnavailable, "no time left"};
  const bool heavy = payload.size() > kElectionBytesMax;
  size_t hops = 0;  // from hint to hint, without a pause
  for (size_t failures = 0; Clock::now() < deadline;) {
    const size_t position = leader_position();
    const auto target = channel(position);
    Result<Response> response = co_await ask(target, pb::Request(request), Bytes(payload),
                                             payload_crc, attempt_deadline(deadline));
    if (response) co_return response;
    last = std::move(response).error();
    // Says nothing of an earlier try, which may have been taken while there was space.
    if (maybe_done && last.code == Errc::kNoSpace)
      co_return fail(Errc::kUnknownOutcome, "an earlier try was not answered, and now {}",
                     last.message);
    if (!worth_repeating(last.code)) co_return std::unexpected(std::move(last));
    maybe_done |= last.code == Errc::kUnknownOutcome || last.code == Errc::kDeadline;
    if (learn(last, *target, position) && ++hops < channels_.size()) continue;
    hops = 0;
    // After each round of the members, or before the same one is asked again, a pause.
    const bool whole_round = ++failures % channels_.size() == 0;
    const int rounds = static_cast<int>(failures / channels_.size());
    const bool election = leader_ == 0 && !heavy && rounds < kElectionRoundsMax;
    const milliseconds most = election ? kElectionPauseMax : kPauseMax;
    if ((whole_round || leader_ != 0) && !co_await pause(rounds, deadline, most)) break;
  }
  if (last.code == Errc::kAckNotReached) co_return std::unexpected(std::move(last));
  if (maybe_done)
    co_return fail(Errc::kUnknownOutcome, "the deadline passed without an answer: {}",
                   last.message);
  co_return fail(Errc::kUnavailable, "no primary took the request before the deadline: {}",
                 last.message);
}

asio::awaitable<Result<Response>> Router::at_any(pb::Request request, Clock::time_point deadline) {
  Error last{Errc::kDeadline, "no time left"};
  size_t position =
      request.read() == pb::READ_LINEARIZABLE ? leader_position() : next_++ % channels_.size();
  for (size_t tries = 1; Clock::now() < deadline; ++tries) {
    const auto target = channel(position);
    if (!target->down() || tries > channels_.size()) {
      Result<Response> response =
          co_await ask(target, pb::Request(request), {}, {}, attempt_deadline(deadline));
      if (response) co_return response;
      last = response.error();
      if (!worth_repeating(last.code)) co_return response;
    }
    position = (position + 1) % channels_.size();
    const int rounds = static_cast<int>(tries / channels_.size());
    if (tries % channels_.size() == 0 && !co_await pause(rounds, deadline, kPauseMax)) break;
  }
  if (last.code == Errc::kTooStale) co_return std::unexpected(std::move(last));
  co_return fail(Errc::kUnavailable, "no replica answered before the deadline: {}", last.message);
}

asio::awaitable<Result<Bytes>> Router::block(BlockId id, asio::thread_pool& workers,
                                             Clock::time_point deadline) {
  pb::Request request;
  request.mutable_get_block()->set_digest(std::string(id.digest.text()));
  Error last{Errc::kUnavailable, "no time left"};
  size_t lacking = 0;  // replicas in a row that do not have it: one may lag, not all of them
  for (size_t tries = 1; Clock::now() < deadline && lacking < 4 * channels_.size(); ++tries) {
    const auto target = channel(next_++);
    if (target->down() && tries <= channels_.size()) continue;
    Result<Response> response =
        co_await ask(target, pb::Request(request), {}, {}, attempt_deadline(deadline));
    if (response) {
      const Bytes& bytes = response->payload;
      const bool whole = bytes.size() == id.length && co_await net::on_worker(workers, [&] {
                           return sha256(bytes.span()) == id.digest;
                         });
      if (whole) co_return std::move(response->payload);
      last = {Errc::kCorrupt, fmt::format("{} served block {} with other bytes than its digest",
                                          target->endpoint().to_string(), id.digest.brief())};
    } else {
      last = response.error();
    }
    const bool elsewhere = last.code == Errc::kNotFound || last.code == Errc::kCorrupt;
    if (!elsewhere && !worth_repeating(last.code)) break;
    lacking = elsewhere ? lacking + 1 : 0;
    const int rounds = static_cast<int>(tries / channels_.size());
    if (tries % channels_.size() == 0 && !co_await pause(rounds, deadline, kPauseMax)) break;
  }
  co_return fail_within(std::move(last), "block {}", id.digest.brief());
}

asio::awaitable<Result<Response>> Router::at_member(uint64_t member, pb::Request request,
                                                    Clock::time_point deadline) {
  for (size_t i = 0; i < members_.size() && !pinned_; ++i) {
    if (members_[i].id == member)
      co_return co_await ask(channel(i), std::move(request), {}, {}, deadline);
  }
  if (pinned_) co_return co_await ask(channel(0), std::move(request), {}, {}, deadline);
  co_return fail(Errc::kNotFound, "the cluster has no member {}", member);
}

}  // namespace ballast::client
