#include "server/transport/codec.h"

#include <gtest/gtest.h>

#include "proto/membership.pb.h"

namespace ballast::server {
namespace {

Bytes joined(const std::vector<Entry>& entries) {
  std::string bytes;
  for (const Entry& entry : entries) bytes += entry.payload.text();
  return Bytes::copy_of(bytes);
}

void expect_round_trip(const raft::Message& message, const std::vector<Entry>& entries = {}) {
  const auto back = from_wire(to_wire(message, entries), message.from, message.to, joined(entries));
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(back->message, message);
  ASSERT_EQ(back->entries.size(), entries.size());
  for (size_t i = 0; i < entries.size(); ++i) {
    EXPECT_EQ(back->entries[i].meta(), entries[i].meta());
    EXPECT_EQ(back->entries[i].header, entries[i].header);
    EXPECT_EQ(back->entries[i].payload, entries[i].payload);
  }
}

raft::Message message(auto body) {
  return {.from = NodeId(1), .to = NodeId(2), .term = Term(7), .body = std::move(body)};
}

TEST(PeerCodec, every_message_survives_the_way) {
  expect_round_trip(message(raft::VoteRequest{true, true, Index(5), Term(3)}));
  expect_round_trip(message(raft::VoteReply{true, true}));
  expect_round_trip(message(raft::AppendReply{true, Index(9), Index(8), Term(2)}));
  expect_round_trip(message(raft::Heartbeat{Index(4), 77}));
  expect_round_trip(message(raft::HeartbeatReply{77, true}));
  expect_round_trip(message(raft::ReadIndexRequest{6}));
  expect_round_trip(message(raft::ReadIndexReply{6, Index(4), true}));
  expect_round_trip(message(raft::TimeoutNow{}));
  expect_round_trip(message(raft::InstallSnapshot{{Index(9), Term(4)}}));
}

TEST(PeerCodec, an_append_says_what_its_configuration_entries_hold) {
  pb::ConfigurationEntry members;
  for (uint64_t id : {1, 2}) {
    pb::ConfigurationMember& member = *members.add_members();
    member.set_id(id);
    member.set_voter(id == 1);
  }
  const Entry entry(Term(7), Index(4), EntryKind::kConfiguration,
                    Bytes::copy_of(members.SerializeAsString()));
  raft::Append append{Index(3), Term(2), 0x1234, Index(1), {entry.meta()}, {}};
  append.configurations.push_back({Index(4), {{NodeId(1)}, {}, {NodeId(2)}}});
  expect_round_trip(message(append), {entry});

  const Entry nonsense(Term(7), Index(4), EntryKind::kConfiguration,
                       Bytes::copy_of("not a configuration"));
  append.entries = {nonsense.meta()};
  const auto back = from_wire(to_wire(message(append), {nonsense}), NodeId(1), NodeId(2), {});
  ASSERT_FALSE(back);
  EXPECT_EQ(back.error().code, Errc::kCorrupt);
}

TEST(PeerCodec, an_append_carries_headers_and_payloads) {
  const std::vector<Entry> entries = {
      {Term(6), Index(11), EntryKind::kBlock, Bytes::copy_of("h"), Bytes::copy_of("block one")},
      {Term(7), Index(12), EntryKind::kNoop},
      {Term(7), Index(13), EntryKind::kBlock, Bytes::copy_of("hh"), Bytes::copy_of("block two")}};
  raft::Append append{.previous_index = Index(10),
                      .previous_term = Term(6),
                      .previous_chain = 0xFEDC'BA98,
                      .commit = Index(9)};
  for (const Entry& entry : entries) append.entries.push_back(entry.meta());
  expect_round_trip(message(append), entries);
}

TEST(PeerCodec, an_entry_that_changed_on_its_way_is_refused) {
  const Entry entry(Term(7), Index(4), EntryKind::kBlock, Bytes::copy_of("head"),
                    Bytes::copy_of("payload"));
  const raft::Append append{.previous_index = Index(3), .entries = {entry.meta()}};
  const pb::PeerMessage sent = to_wire(message(append), {entry});
  const auto receive = [](const pb::PeerMessage& wire, std::string_view payload) {
    return from_wire(wire, NodeId(1), NodeId(2), Bytes::copy_of(payload));
  };
  EXPECT_TRUE(receive(sent, "payload"));
  const auto other_payload = receive(sent, "pAyload");
  ASSERT_FALSE(other_payload);
  EXPECT_EQ(other_payload.error().message, "entry 4 does not match its checksum");
  pb::PeerMessage other_header = sent;
  other_header.mutable_append()->mutable_entries(0)->set_header("heaD");
  EXPECT_FALSE(receive(other_header, "payload"));
}

TEST(PeerCodec, lies_about_payloads_are_refused) {
  pb::PeerMessage wire;
  pb::EntryHeader& header = *wire.mutable_append()->add_entries();
  header.set_kind(static_cast<uint32_t>(EntryKind::kBlock));
  header.set_payload_length(10);
  header.set_checksum(crc32c(Bytes::copy_of("0123456789").span()));
  const auto receive = [&](std::string_view payload) {
    return from_wire(wire, NodeId(1), NodeId(2), Bytes::copy_of(payload));
  };
  EXPECT_TRUE(receive("0123456789"));
  EXPECT_FALSE(receive("012345678"));
  EXPECT_FALSE(receive("0123456789x"));
  header.set_kind(99);
  EXPECT_FALSE(receive("0123456789"));
  wire.mutable_heartbeat();
  EXPECT_FALSE(receive("x"));
  EXPECT_FALSE(from_wire(pb::PeerMessage(), NodeId(1), NodeId(2), {}));
}

}  // namespace
}  // namespace ballast::server
