// A whole node on the simulated disk: what it does when its log can't be read back.
#include <gtest/gtest.h>

#include "storage/log/record.h"
#include "tests/sim/node.h"
#include "tests/unit/storage/temporary_directory.h"

namespace ballast::sim {
namespace {

// The only member of its cluster.
class LoneNode {
 public:
  LoneNode() {
    pb::ConfigurationMember& self = *options_.founding.add_members();
    self.set_id(1);
    self.set_name("n1");
    self.set_disk(node_.disk_uuid());
    self.set_voter(true);
    options_.raft.seed = 1;
  }

  void start() {
    const Status started = node_.start(options_);
    ASSERT_TRUE(started) << started.error().message;
    node_.run();
  }
  void run(uint64_t ms) {
    for (const uint64_t end = scheduler_.now_us() + ms * kMs; scheduler_.now_us() < end;) {
      while (scheduler_.run_next(std::min(end, scheduler_.now_us() + 5 * kMs))) {
      }
      node_.run();
    }
  }
  // Proposes commits that change nothing, and waits until they are durable.
  void write(int entries) {
    for (int i = 0; i < entries; ++i) {
      std::vector<server::Node::Draft> drafts(1);
      drafts[0].header = Bytes::copy_of(pb::CommitEntry().SerializeAsString());
      asio::co_spawn(
          node_.io(),
          [this, drafts = std::move(drafts)]() mutable -> asio::awaitable<void> {
            static_cast<void>(co_await node_.node().write(std::move(drafts), pb::ACK_SYNC,
                                                          Clock::now() + std::chrono::seconds(1)));
          },
          asio::detached);
    }
    node_.run();
    run(100);
  }

  SimNode& node() { return node_; }
  Index applied() const { return node_.node().state().applied().index; }
  const std::vector<std::string>& fatal() const { return fatal_; }

 private:
  storage::TemporaryDirectory directory_;
  Scheduler scheduler_;
  std::vector<std::string> fatal_;
  SimNode node_{NodeId(1), directory_ / "node", scheduler_, raft::Prng(1),
                SimNode::Hooks{[](const Frame&) {}, [](const raft::Message&) {},
                               [this](const std::string& why) { fatal_.push_back(why); }, [] {},
                               [](Index) {}}};
  server::NodeOptions options_{.cache_bytes = 1 << 20};
};

TEST(SimNode, entries_that_cannot_be_read_back_stop_the_node_and_are_not_skipped) {
  LoneNode bed;
  ASSERT_NO_FATAL_FAILURE(bed.start());
  bed.run(3'000);
  bed.write(20);
  const Index written = bed.node().node().log().last();
  ASSERT_EQ(bed.applied(), written);
  ASSERT_EQ(written, Index(21)) << "20 and the one that began the term";

  // Its rows are as they were at the start: all of the log must be applied anew, from the disk.
  bed.node().crash();
  bed.node().rows().wipe();
  bed.node().disk().faults.read_error_ppm = kMillion;
  ASSERT_NO_FATAL_FAILURE(bed.start());
  bed.run(3'000);
  ASSERT_EQ(bed.fatal().size(), 1u);
  EXPECT_EQ(bed.fatal()[0], "cannot read 'the log': Input/output error");
  EXPECT_EQ(bed.applied(), Index(0));

  bed.node().crash();
  bed.node().disk().heal();
  ASSERT_NO_FATAL_FAILURE(bed.start());
  bed.run(3'000);
  EXPECT_EQ(bed.fatal().size(), 1u);
  EXPECT_EQ(bed.applied(), bed.node().node().log().last());
  EXPECT_EQ(bed.applied(), written + 2) << "all of it, and the first of the two terms since";
}

// An append waits for it as for a write: the node is resigned after a second, and ends after ten.
TEST(SimNode, a_segment_that_does_not_come_is_a_disk_that_does_not_answer) {
  LoneNode bed;
  bed.node().disk().faults.segment_bytes = 8 * storage::kSegmentHeaderBytes;
  bed.node().disk().faults.segment_us_max = 1'000'000 * kMs;
  ASSERT_NO_FATAL_FAILURE(bed.start());
  bed.run(3'000);
  bed.write(20);
  EXPECT_EQ(bed.node().node().log().durable(), Index(7)) << "what one segment holds";
  EXPECT_EQ(bed.node().disk().counts().late_segments, 1u);
  bed.run(9'000);
  EXPECT_TRUE(bed.fatal().empty());
  bed.run(1'500);
  ASSERT_EQ(bed.fatal().size(), 1u);
  EXPECT_EQ(bed.fatal()[0],
            "a write has been under way for 10 s: the disk does not answer; another node has taken "
            "over, or will");
  EXPECT_EQ(bed.applied(), Index(1)) << "of the append that waits, nothing was promised";
}

}  // namespace
}  // namespace ballast::sim
