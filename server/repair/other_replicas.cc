#include "server/repair/other_replicas.h"

#include <map>

#include "proto/net/worker.h"

namespace ballast::server {

std::vector<net::Endpoint> OtherReplicas::addresses() const {
  std::map<uint64_t, net::Endpoint> endpoints;
  for (const MemberConfig& member : cluster_.members)
    endpoints.emplace(member.id.value(), member.address);
  for (const pb::ConfigurationMember& member : node_.membership().newest().members()) {
    if (auto address = net::parse_endpoint(member.address()))
      endpoints.insert_or_assign(member.id(), *std::move(address));
  }
  endpoints.erase(cluster_.self.value());
  std::vector<net::Endpoint> addresses;
  for (auto& [id, endpoint] : endpoints) {
    // The primary has what is needed for certain.
    const bool leads = NodeId(id) == node_.core().leader();
    addresses.insert(leads ? addresses.begin() : addresses.end(), std::move(endpoint));
  }
  return addresses;
}

asio::awaitable<Result<std::shared_ptr<Replica>>> OtherReplicas::connect(net::Endpoint address) {
  auto replica = co_await Replica::connect(executor_, std::move(address));
  if (!replica) co_return replica;
  std::erase_if(replicas_, [](const auto& weak) { return weak.expired(); });
  replicas_.push_back(*replica);
  if (stopped_) (*replica)->close();
  co_return replica;
}

asio::awaitable<Result<OtherReplicas::Given>> OtherReplicas::ask(pb::Request request,
                                                                 Accept accept) {
  Error last{Errc::kUnavailable, "no other member is known"};
  for (const net::Endpoint& address : addresses()) {
    if (stopped_) co_return fail(Errc::kUnavailable, "the node is shutting down");
    const auto replica = co_await connect(address);
    if (!replica) {
      last = replica.error();
      continue;
    }
    auto answer = co_await (*replica)->ask(request);
    Status accepted;
    if (!answer)
      accepted = std::unexpected(answer.error());
    else if (accept)
      accepted = co_await accept(*answer);
    if (accepted) co_return Given{*replica, *std::move(answer)};
    (*replica)->close();
    last = std::move(accepted).error();
  }
  co_return std::unexpected(std::move(last));
}

asio::awaitable<Status> OtherReplicas::check_block(Digest digest, Bytes bytes) {
  if (co_await net::on_worker(workers_, [&] { return sha256(bytes.span()) == digest; }))
    co_return Status{};
  co_return fail(Errc::kCorrupt, "what came as block {} is something else", digest.brief());
}

asio::awaitable<Result<Bytes>> OtherReplicas::block(Digest digest) {
  pb::Request request;
  request.mutable_get_block()->set_digest(std::string(digest.text()));
  BALLAST_CO_TRY(const Given given,
                 co_await ask(std::move(request), [this, digest](const Replica::Answer& answer) {
                   return check_block(digest, answer.payload);
                 }));
  given.by->close();
  co_return given.answer.payload;
}

asio::awaitable<Result<std::shared_ptr<Replica>>> OtherReplicas::open_snapshot(
    Index index, Index has, pb::OpenSnapshotReply& opened) {
  pb::Request request;
  request.mutable_open_snapshot()->set_index(index.value());
  request.mutable_open_snapshot()->set_has(has.value());
  BALLAST_CO_TRY(const Given given, co_await ask(std::move(request)));
  opened = given.answer.reply.open_snapshot();
  co_return given.by;
}

asio::awaitable<Status> OtherReplicas::has_rows() {
  pb::Request request;
  request.mutable_state_digest();
  BALLAST_CO_TRY(const Given given, co_await ask(std::move(request)));
  given.by->close();
  co_return Status{};
}

void OtherReplicas::stop() {
  stopped_ = true;
  for (const auto& weak : replicas_) {
    if (const auto replica = weak.lock()) replica->close();
  }
}

}  // namespace ballast::server
