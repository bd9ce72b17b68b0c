// What must hold at every moment.
#include <algorithm>
#include <utility>

#include "storage/kv/segment_use.h"
#include "tests/sim/world.h"

namespace ballast::sim {

void World::after_run(SimNode& one) {
  const raft::Core& core = one.node().core();
  std::vector<const raft::Core*> running;
  for (const auto& other : nodes_) {
    if (other->running()) running.push_back(&other->node().core());
  }
  for (std::string& broken : invariants_.observe(core, running)) wrong(std::move(broken));
  check_bounds(core.view());
  check_state(one);
  watch_leadership(one);
}

// What a node says of its disk must be so when it says it.
void World::check_promise(SimNode& one, const raft::Message& message) {
  if (const auto* vote = std::get_if<raft::VoteReply>(&message.body)) {
    const HardState& disk = one.disk().hard_state();
    if (vote->granted && !vote->pre_vote && disk != HardState{message.term, message.to})
      wrong(fmt::format("node {} gave its vote of term {} to {} before its disk held it", one.id(),
                        message.term, message.to));
  }
  if (std::holds_alternative<raft::TimeoutNow>(message.body))
    replicas_[message.to].told_term = message.term + 1;
  if (const auto* reply = std::get_if<raft::AppendReply>(&message.body)) {
    const std::vector<DurableEntry>& durable = one.disk().durable();
    const Index index = reply->index;
    if (reply->rejected || index == Index()) return;
    const bool forgotten = index <= one.node().core().base().index;
    if (index.value() > durable.size() ||
        (!forgotten && durable[index.value() - 1].meta != one.node().core().meta_at(index)))
      wrong(fmt::format("node {} acknowledged entry {} before its disk held it", one.id(), index));
  }
}

// A new leader, and one that has slept, are asked at once: whoever answers without asking the
// others answers wrongly now.
void World::watch_leadership(SimNode& one) {
  Replica& replica = replicas_[one.id()];
  const bool leads = one.node().core().role() == raft::Role::kLeader;
  if (leads && !replica.led) {
    for (const uint64_t us : {0, 500, 2'000}) scheduler_.after(us, [this, &one] { probe(one); });
  }
  replica.led = leads;
}

void World::probe(SimNode& one) { prober_->probe(one); }

// PreVote (thesis section 9.6): a node that can't reach a majority must not raise the term, or the
// leader would have to go when it comes back. A message may be on its way for a while.
void World::check_isolation() {
  const uint64_t now = scheduler_.now_us();
  // Both ways, and an answer that waits for its node's disk.
  const DiskFaults& disk = faults_.disk;
  const uint64_t patience = 3 * faults_.slow_us_max + 500 * kMs +
                            (disk.stall_ppm == 0 ? 0 : disk.stall_us_max) + disk.segment_us_max +
                            (faults_.strand_ms == 0 ? 0 : kStrandUs) +
                            (faults_.hang_ms == 0 ? 0 : 2 * faults_.hang_length_ms * kMs);
  for (const auto& one : nodes_) {
    Replica& replica = replicas_[one->id()];
    for (const auto& its : nodes_) {
      const NodeId other = its->id();
      // Whoever is not there itself may have its answers waiting, and one that sleeps may have the
      // question waiting. A way there and a way back need not be open at the same time: an answer
      // may wait for a disk.
      const bool asks = node(other).running() && !cut(one->id(), other);
      const bool answers = node(other).reachable() && !cut(other, one->id());
      if (!one->reachable() || asks) replica.asked_us[other] = now;
      if (!one->reachable() || answers) replica.heard_us[other] = now;
    }
    if (!one->running()) continue;
    const raft::Core& core = one->node().core();
    const bool heard = raft::has_majority(core.configuration(), [&](NodeId other) {
      return other == one->id() || (now - replica.asked_us[other] <= patience &&
                                    now - replica.heard_us[other] <= patience);
    });
    if (core.configuration().voters.empty()) continue;
    if (core.term() > replica.term && core.role() == raft::Role::kCandidate && !heard &&
        core.term() != replica.told_term)
      wrong(fmt::format("node {} reached no majority for {} us and raised the term to {}",
                        one->id(), patience, core.term()));
    replica.term = core.term();
  }
}

void World::check_bounds(const raft::View& view) {
  for (const raft::PeerView& peer : view.peers) {
    if (peer.inflight_entries > limits::kInflightEntriesMax ||
        peer.inflight_bytes > limits::kInflightBytesMax)
      wrong(fmt::format("leader {}: too much in flight to {}", view.id, peer.id));
  }
  if (view.uncommitted_bytes > limits::kUncommittedBytesMax)
    wrong(fmt::format("leader {} holds {} uncommitted bytes", view.id, view.uncommitted_bytes));
}

// Equal applied index, equal rows.
void World::check_state(SimNode& one) {
  const uint64_t applied = one.node().state().applied().index.value();
  uint64_t& observed = replicas_[one.id()].observed_applied;
  if (applied == observed) return;
  observed = applied;
  note_committed(one, applied);
  mix(applied * 1'000'003 + one.id().value());
  const auto digest = one.node().state().state_digest();
  if (!digest) return wrong(fmt::format("node {}: {}", one.id(), digest.error().message));
  const auto [known, fresh] = digests_.try_emplace(applied, digest->digest());
  if (known->second != digest->digest())
    wrong(fmt::format("node {} has other rows than another node at index {}", one.id(), applied));
}

// What was applied first, of the disk of whoever did so: its log may forget it.
void World::note_committed(const SimNode& one, uint64_t applied) {
  const std::vector<DurableEntry>& durable = one.disk().durable();
  while (committed_.size() < std::min<uint64_t>(applied, durable.size())) {
    const DurableEntry& entry = durable[committed_.size()];
    if (entry.in_snapshot)
      return wrong(fmt::format("node {} shows entry {}, which nobody has applied", one.id(),
                               committed_.size() + 1));
    committed_.emplace_back(entry.meta.term, entry.meta.index, entry.meta.kind,
                            Bytes::copy_of(entry.header));
  }
}

// The promise itself: at a sync ack, the disks of a majority hold header and payload. The voters
// are those of a configuration that was in force since the entry was appended; a disk that was lost
// since then counts, as it did when it answered.
void World::check_durable_majority(SimNode& one, Index index, Term term, bool everywhere) {
  const size_t at = index.value() - 1;
  const auto has = [&](const std::vector<DurableEntry>& durable) {
    if (at >= durable.size()) return false;
    return durable[at].in_snapshot || (durable[at].meta.term == term && durable[at].whole);
  };
  const auto holds = [&](NodeId id) {
    return has(node(id).disk().durable()) || std::ranges::any_of(lost_disks_[id], has);
  };
  std::vector<raft::ConfigurationAt> in_force{{Index(), server::configuration_of(founders_)}};
  std::vector<raft::ConfigurationAt> known = one.node().membership().later();
  known.insert(known.begin(), one.node().membership().first());
  for (raft::ConfigurationAt& next : known) {
    if (next.index == Index()) continue;
    if (next.index <= index) in_force.clear();
    in_force.push_back(std::move(next));
  }
  const bool enough = std::ranges::any_of(in_force, [&](const raft::ConfigurationAt& held) {
    return everywhere ? std::ranges::all_of(held.configuration.all_voters(), holds)
                      : raft::has_majority(held.configuration, holds);
  });
  if (!enough)
    wrong(fmt::format("node {} acknowledged entry {} of term {} ({}), and too few disks hold it",
                      one.id(), index, term, everywhere ? "sync_all" : "sync"));
}

void World::on_ack(SimNode& one, const server::Node::Written& written) {
  ++counts_.acks;
  const Index index(written.token.index());
  const Term term(written.token.term());
  mix(index.value() * 257 + term.value());
  check_durable_majority(one, index, term, written.reached == pb::ACK_SYNC_ALL);
  history_.acks.push_back({index, term, scheduler_.now_us()});
}

void World::check_block(SimNode& one, const std::string& digest) {
  const auto block = one.node().state().block(*Digest::from_raw(digest));
  // A client asks another replica then.
  if (!block && block.error().code == Errc::kCorrupt && replicas_[one.id()].damaged) return;
  if (!block)
    wrong(fmt::format("node {} shows a key whose block it can't read: {}", one.id(),
                      block.error().message));
  else if (std::string(sha256(block->bytes.span()).text()) != digest)
    wrong(fmt::format("node {} shows a key whose block is another one", one.id()));
}

// Every block that the rows name lies where they say, and is what it is called.
void World::check_blocks(SimNode& one) {
  const auto found = one.node().state().verify_blocks(std::nullopt, {std::chrono::hours(1)});
  if (!found || found->damaged_size() > 0)
    wrong(fmt::format("node {} has {} blocks that it can't read", one.id(),
                      found ? found->damaged_size() : -1));
}

// What its counters say is live in each log segment is what the places of its blocks say.
void World::check_segments(SimNode& one) {
  const auto counted = one.node().state().segments();
  const auto expected = storage::count_uses(*one.rows().open());
  if (!counted || !expected || *counted != *expected)
    wrong(fmt::format("node {} counts what is live in its log segments wrong", one.id()));
}

}  // namespace ballast::sim
