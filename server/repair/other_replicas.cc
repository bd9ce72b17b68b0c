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

asio::awaitable<Result<Bytes>> OtherReplicas::block(Digest digest) {
  Error last{Errc::kNotFound, "there is no other member"};
  bool all_answered = true;
  for (const net::Endpoint& address : addresses()) {
    if (stopped_) co_return fail(Errc::kUnavailable, "the node is shutting down");
    pb::Request request;
    request.mutable_get_block()->set_digest(std::string(digest.text()));
    auto replica = co_await connect(address);
    Result<Replica::Answer> answer =
        replica ? co_await (*replica)->ask(std::move(request)) : std::unexpected(replica.error());
    const bool answered =
        answer || answer.error().code == Errc::kNotFound || (replica && !(*replica)->closed());
    if (replica) (*replica)->close();
    if (answer) {
      const Bytes& bytes = answer->payload;
      if (co_await net::on_worker(workers_, [&] { return sha256(bytes.span()) == digest; }))
        co_return bytes;
      answer = fail(Errc::kCorrupt, "{} sent another block", address.to_string());
    }
    all_answered = all_answered && answered;
    last = std::move(answer).error();
  }
  co_return fail(all_answered ? Errc::kNotFound : Errc::kUnavailable,
                 "no other member gave block {}; the last said: {}", digest.brief(), last.message);
}

void OtherReplicas::stop() {
  stopped_ = true;
  for (const auto& weak : replicas_) {
    if (const auto replica = weak.lock()) replica->close();
  }
}

}  // namespace ballast::server
