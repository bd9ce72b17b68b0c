#include "server/transport/codec.h"

#include "server/node/membership.h"

namespace ballast::server {
namespace {

template <class... Handlers>
struct Overloaded : Handlers... {
  using Handlers::operator()...;
};

void put_append(const raft::Append& append, const std::vector<Entry>& entries,
                pb::PeerMessage::Append& wire) {
  wire.set_previous_index(append.previous_index.value());
  wire.set_previous_term(append.previous_term.value());
  wire.set_previous_chain(append.previous_chain);
  wire.set_commit(append.commit.value());
  for (const Entry& entry : entries) {
    pb::EntryHeader& header = *wire.add_entries();
    header.set_term(entry.term.value());
    header.set_kind(static_cast<uint32_t>(entry.kind));
    header.set_header(entry.header.data(), entry.header.size());
    header.set_payload_length(static_cast<uint32_t>(entry.payload.size()));
    header.set_checksum(entry.meta().checksum);
  }
}

Result<std::vector<Entry>> take_entries(const pb::PeerMessage::Append& append,
                                        const Bytes& payload) {
  std::vector<Entry> entries;
  size_t at = 0;
  Index index(append.previous_index());
  for (const pb::EntryHeader& header : append.entries()) {
    if (header.kind() > 0xFF || !entry_kind_valid(static_cast<uint8_t>(header.kind())))
      return fail(Errc::kCorrupt, "an entry of kind {}, which does not exist", header.kind());
    if (header.payload_length() > payload.size() - at)
      return fail(Errc::kCorrupt, "an append's payload ends too early");
    entries.emplace_back(Term(header.term()), ++index, static_cast<EntryKind>(header.kind()),
                         Bytes::copy_of(header.header()),
                         payload.slice(at, header.payload_length()));
    if (entries.back().meta().checksum != header.checksum())
      return fail(Errc::kCorrupt, "entry {} does not match its checksum", index);
    at += header.payload_length();
  }
  if (at != payload.size())
    return fail(Errc::kCorrupt, "an append carries {} bytes that belong to no entry",
                payload.size() - at);
  return entries;
}

Result<raft::Append> take_append(const pb::PeerMessage::Append& wire,
                                 const std::vector<Entry>& entries) {
  raft::Append append{.previous_index = Index(wire.previous_index()),
                      .previous_term = Term(wire.previous_term()),
                      .previous_chain = wire.previous_chain(),
                      .commit = Index(wire.commit())};
  for (const Entry& entry : entries) {
    append.entries.push_back(entry.meta());
    if (entry.kind != EntryKind::kConfiguration) continue;
    BALLAST_TRY(const auto members, parse_configuration(entry.header));
    append.configurations.push_back({entry.index, configuration_of(members)});
  }
  return append;
}

}  // namespace

pb::PeerMessage to_wire(const raft::Message& message, const std::vector<Entry>& entries) {
  pb::PeerMessage wire;
  wire.set_term(message.term.value());
  std::visit(
      Overloaded{
          [&](const raft::VoteRequest& body) {
            auto& out = *wire.mutable_vote_request();
            out.set_pre_vote(body.pre_vote);
            out.set_transfer(body.transfer);
            out.set_last_index(body.last_index.value());
            out.set_last_term(body.last_term.value());
          },
          [&](const raft::VoteReply& body) {
            wire.mutable_vote_reply()->set_pre_vote(body.pre_vote);
            wire.mutable_vote_reply()->set_granted(body.granted);
          },
          [&](const raft::Append& body) { put_append(body, entries, *wire.mutable_append()); },
          [&](const raft::AppendReply& body) {
            auto& out = *wire.mutable_append_reply();
            out.set_rejected(body.rejected);
            out.set_index(body.index.value());
            out.set_hint_index(body.hint_index.value());
            out.set_hint_term(body.hint_term.value());
          },
          [&](const raft::Heartbeat& body) {
            wire.mutable_heartbeat()->set_commit(body.commit.value());
            wire.mutable_heartbeat()->set_round(body.round);
          },
          [&](const raft::InstallSnapshot& body) {
            wire.mutable_install_snapshot()->set_index(body.at.index.value());
            wire.mutable_install_snapshot()->set_term(body.at.term.value());
          },
          [&](const raft::HeartbeatReply& body) {
            wire.mutable_heartbeat_reply()->set_round(body.round);
            wire.mutable_heartbeat_reply()->set_resigned(body.resigned);
            wire.mutable_heartbeat_reply()->set_full(body.full);
          },
          [&](const raft::ReadIndexRequest& body) { wire.mutable_read_index()->set_id(body.id); },
          [&](const raft::ReadIndexReply& body) {
            auto& out = *wire.mutable_read_index_reply();
            out.set_id(body.id);
            out.set_index(body.index.value());
            out.set_refused(body.refused);
          },
          [&](const raft::TimeoutNow&) { wire.mutable_timeout_now(); },
      },
      message.body);
  return wire;
}

Result<Received> from_wire(const pb::PeerMessage& wire, NodeId from, NodeId to,
                           const Bytes& payload) {
  Received received{.message = {.from = from, .to = to, .term = Term(wire.term()), .body = {}}};
  auto& body = received.message.body;
  using Kind = pb::PeerMessage::KindCase;
  if (wire.kind_case() != Kind::kAppend && !payload.empty())
    return fail(Errc::kCorrupt, "a message that is no append carries a payload");
  switch (wire.kind_case()) {
    case Kind::kVoteRequest:
      body = raft::VoteRequest{.pre_vote = wire.vote_request().pre_vote(),
                               .transfer = wire.vote_request().transfer(),
                               .last_index = Index(wire.vote_request().last_index()),
                               .last_term = Term(wire.vote_request().last_term())};
      break;
    case Kind::kVoteReply:
      body = raft::VoteReply{.pre_vote = wire.vote_reply().pre_vote(),
                             .granted = wire.vote_reply().granted()};
      break;
    case Kind::kAppend: {
      BALLAST_TRY(received.entries, take_entries(wire.append(), payload));
      BALLAST_TRY(body, take_append(wire.append(), received.entries));
      break;
    }
    case Kind::kAppendReply:
      body = raft::AppendReply{.rejected = wire.append_reply().rejected(),
                               .index = Index(wire.append_reply().index()),
                               .hint_index = Index(wire.append_reply().hint_index()),
                               .hint_term = Term(wire.append_reply().hint_term())};
      break;
    case Kind::kHeartbeat:
      body = raft::Heartbeat{.commit = Index(wire.heartbeat().commit()),
                             .round = wire.heartbeat().round()};
      break;
    case Kind::kInstallSnapshot:
      body = raft::InstallSnapshot{
          {Index(wire.install_snapshot().index()), Term(wire.install_snapshot().term())}};
      break;
    case Kind::kHeartbeatReply:
      body = raft::HeartbeatReply{wire.heartbeat_reply().round(), wire.heartbeat_reply().resigned(),
                                  wire.heartbeat_reply().full()};
      break;
    case Kind::kReadIndex: body = raft::ReadIndexRequest{.id = wire.read_index().id()}; break;
    case Kind::kReadIndexReply:
      body = raft::ReadIndexReply{.id = wire.read_index_reply().id(),
                                  .index = Index(wire.read_index_reply().index()),
                                  .refused = wire.read_index_reply().refused()};
      break;
    case Kind::kTimeoutNow: body = raft::TimeoutNow{}; break;
    case Kind::KIND_NOT_SET: return fail(Errc::kCorrupt, "a message of no kind");
  }
  return received;
}

}  // namespace ballast::server
