#include "server/node/membership.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "proto/base/uuid.h"
#include "tests/unit/server/member_entries.h"

namespace ballast::server {
namespace {

std::string text_of(const pb::ConfigurationEntry& entry) {
  return raft::to_string(configuration_of(entry));
}

Bytes header(const pb::ConfigurationEntry& entry) {
  return Bytes::copy_of(entry.SerializeAsString());
}

TEST(Membership, an_entry_that_no_group_could_have_is_refused) {
  EXPECT_TRUE(parse_configuration(header(entry_of("1v 2v 3l"))));
  EXPECT_EQ(parse_configuration(header(entry_of("1l"))).error().code, Errc::kCorrupt);
  EXPECT_FALSE(parse_configuration(header(entry_of("1v 1v"))));
  EXPECT_FALSE(parse_configuration(header(entry_of("0v 1v"))));
  EXPECT_FALSE(parse_configuration(Bytes::copy_of("\xff\xff")));
}

TEST(Membership, voters_change_by_way_of_a_joint_configuration) {
  const auto joint = enter(entry_of("1v 2v 3v 4l"), entry_of("1v 2v 4v"));
  EXPECT_EQ(text_of(joint), "voters 1 2 4, outgoing 1 2 3");
  EXPECT_EQ(text_of(leave(joint)), "voters 1 2 4");
  EXPECT_EQ(find_member(joint, NodeId(3))->disk(), "disk 3") << "who goes is still spoken to";
  EXPECT_EQ(text_of(enter(entry_of("1v"), entry_of("1v 2l"))), "voters 1, learners 2");
}

TEST(Membership, history_follows_the_log) {
  Membership membership(entry_of("1v"));
  membership.append(Index(3), entry_of("1v 2l"));
  membership.append(Index(5), entry_of("1vo 2v"));
  EXPECT_EQ(membership.newest_index(), Index(5));
  membership.replace_from(Index(5));
  EXPECT_EQ(text_of(membership.newest()), "voters 1, learners 2");
  EXPECT_EQ(membership.later().size(), 1U);
  membership.replace_from(Index(1));
  EXPECT_EQ(text_of(membership.newest()), "voters 1") << "the founding one stays";
}

TEST(Membership, a_member_is_a_node_with_its_disk) {
  const pb::ConfigurationEntry known = entry_of("1v 2v 3v");
  struct Case {
    const char* what;
    Greeting greeting;
    std::optional<Trust> expected;
  };
  const std::vector<Case> table = {
      {"a member with its disk", {NodeId(2), "disk 2", "disk 1", Index(7)}, Trust::kEverything},
      {"it does not know our disk yet", {NodeId(2), "disk 2", "", Index(0)}, Trust::kEverything},
      {"a wiped disk under the old name", {NodeId(2), "new", "", Index(0)}, std::nullopt},
      {"the same, with our configuration", {NodeId(2), "new", "disk 1", Index(7)}, std::nullopt},
      {"it was replaced, and we lag", {NodeId(2), "new", "disk 1", Index(8)}, Trust::kEverything},
      {"we were replaced, and it lags", {NodeId(2), "disk 2", "old 1", Index(6)}, Trust::kAnswers},
      {"we were wiped", {NodeId(2), "disk 2", "old 1", Index(7)}, std::nullopt},
      {"somebody whom we do not know yet",
       {NodeId(9), "disk 9", "disk 1", Index(9)},
       Trust::kEverything},
      {"somebody who was removed", {NodeId(9), "disk 9", "disk 1", Index(7)}, std::nullopt},
      {"somebody who is to be added", {NodeId(9), "disk 9", "", Index(0), true}, std::nullopt},
  };
  for (const Case& one : table) {
    const auto trust = check_greeting(one.greeting, known, Index(7), {"disk 1", false});
    EXPECT_EQ(trust ? std::optional(*trust) : std::nullopt, one.expected) << one.what;
  }
}

TEST(Membership, before_the_disks_are_known_founders_alone_believe_each_other) {
  pb::ConfigurationEntry known = entry_of("1v 2v 3v");
  for (pb::ConfigurationMember& member : *known.mutable_members()) member.clear_disk();
  const Greeting founder{NodeId(2), "disk 2", "", Index(0), false};
  const Greeting wiped{NodeId(2), "new", "", Index(0), true};
  EXPECT_TRUE(check_greeting(founder, known, Index(0), {"disk 1", false}));
  EXPECT_FALSE(check_greeting(wiped, known, Index(0), {"disk 1", false}));
  const auto trust = check_greeting(founder, {}, Index(0), {"new 1", true});
  EXPECT_FALSE(trust) << "we were wiped, and they take us for the founder";
}

// Disks as the identities of founders name them: by what they began with.
TEST(Membership, founders_that_began_with_different_backups_do_not_take_part_together) {
  pb::ConfigurationEntry unpinned = entry_of("1v 2v 3v");
  for (pb::ConfigurationMember& member : *unpinned.mutable_members()) member.clear_disk();
  const auto disk = [](char backup) {
    Uuid disk = Uuid::random();
    std::fill_n(disk.bytes.begin(), 6, static_cast<uint8_t>(backup));
    disk.bytes[6] = 0x80;
    return disk.raw();
  };
  const auto trusts = [&](const std::string& own, const std::string& other) {
    const Greeting greeting{NodeId(2), other, "", Index(0), false};
    return check_greeting(greeting, unpinned, Index(0), {own, false}).has_value();
  };
  const std::string nothing = Uuid::random().raw();
  EXPECT_TRUE(trusts(disk('a'), disk('a')));
  EXPECT_TRUE(trusts(nothing, Uuid::random().raw()));
  EXPECT_FALSE(trusts(disk('a'), disk('b')));
  EXPECT_FALSE(trusts(disk('a'), nothing));
  EXPECT_FALSE(trusts(nothing, disk('a')));
}

TEST(Membership, disks_are_pinned_once_every_founder_has_shown_its_own) {
  pb::ConfigurationEntry entry = entry_of("1v 2v");
  for (pb::ConfigurationMember& member : *entry.mutable_members()) {
    member.clear_disk();
    member.set_address("old");
  }
  std::map<NodeId, ShownMember> shown = {{NodeId(1), {"disk 1", "old", false}}};
  EXPECT_FALSE(pinned(entry, shown)) << "node 2 has not been seen";
  shown[NodeId(2)] = {"new", "old", true};
  EXPECT_FALSE(pinned(entry, shown)) << "a disk that joined is never a founder's";
  shown[NodeId(2)] = {"disk 2", "", false};
  const auto next = pinned(entry, shown);
  ASSERT_TRUE(next);
  EXPECT_EQ(find_member(*next, NodeId(2))->disk(), "disk 2");
  EXPECT_FALSE(pinned(*next, shown)) << "nothing is left to say";
  shown[NodeId(2)].address = "moved";
  ASSERT_TRUE(pinned(*next, shown));
  EXPECT_EQ(find_member(*pinned(*next, shown), NodeId(2))->address(), "moved");
  shown[NodeId(2)].disk = "other";
  EXPECT_FALSE(pinned(*next, shown)) << "another disk says nothing of this member";
}

TEST(Membership, whoever_takes_us_for_another_disk_may_answer_and_ask_for_nothing_that_counts) {
  const auto takes = [](auto body) {
    return may_take(Trust::kAnswers, {NodeId(2), NodeId(1), Term(3), body});
  };
  EXPECT_TRUE(takes(raft::AppendReply{}));
  EXPECT_TRUE(takes(raft::VoteReply{}));
  EXPECT_TRUE(takes(raft::HeartbeatReply{}));
  EXPECT_FALSE(takes(raft::VoteRequest{}));
  EXPECT_FALSE(takes(raft::Append{}));
  EXPECT_FALSE(takes(raft::Heartbeat{}));
  EXPECT_FALSE(takes(raft::TimeoutNow{}));
}

}  // namespace
}  // namespace ballast::server
