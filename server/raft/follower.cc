// The follower's side of the log (thesis figure 3.1, AppendEntries RPC, receiver).

#include <algorithm>

#include "proto/base/check.h"
#include "proto/base/planted.h"
#include "server/raft/impl.h"

namespace ballast::raft {

// A message of the present term that only its leader sends.
void Core::Impl::follow(NodeId from) {
  BALLAST_CHECK(leader_of_term == NodeId() || leader_of_term == from,
                "term {} has the leaders {} and {}", hard.term, leader_of_term, from);
  if (role != Role::kFollower || leader != from) become_follower(hard.term, from);
  leader_of_term = from;
  election_elapsed = 0;
}

void Core::Impl::handle(const Message& message, const Heartbeat& heartbeat) {
  follow(message.from);
  commit_to(heartbeat.commit);
  send(message.from, HeartbeatReply{heartbeat.round, resigned, full});
}

void Core::Impl::handle(const Message& message, const Append& append) {
  follow(message.from);
  const Index previous = append.previous_index;
  // What lies before the base is committed, hence the same at every leader.
  const bool matches = previous < log.base().index ||
                       (previous <= log.last() && log.term_at(previous) == append.previous_term);
  if (!matches) {
    // The logs can only agree where our term is not above the leader's at `previous`.
    const Index hint = log.last_not_above(previous, append.previous_term);
    send(message.from, AppendReply{true, previous, hint, log.term_at(hint)});
    return;
  }
  if (previous >= log.base().index) {
    check_same_history(append);
  }
  append_received(append, message.term);
  const Index covered = previous + append.entries.size();
  commit_to(std::min(append.commit, covered));
  // Said when everything up to there is durable, also if these entries came earlier.
  send(message.from, AppendReply{.rejected = false, .index = covered},
       BALLAST_PLANTED(kAckBeforeDurable) ? 0 : log.ticket_of(covered, next_ticket));
}

// Two logs with the same term at the same index, and other entries before: one of the two nodes has
// changed what it had, and which of them is for people to find out.
void Core::Impl::check_same_history(const Append& append) const {
  const Index previous = append.previous_index;
  BALLAST_CHECK(
      log.chain_at(previous) == append.previous_chain,
      "this node's log and the primary's (node {}, term {}) both have an entry {} of term "
      "{}, but differ before it: one of them was damaged. Keep both data directories; a "
      "third node's log tells which one is wrong, and that node must be replaced",
      leader, hard.term, previous, append.previous_term);
}

// Entries that are there already stay, and so does what follows them: an Append that is late or
// comes twice must not take back what was acknowledged since.
void Core::Impl::append_received(const Append& append, Term leader_term) {
  Index expected = append.previous_index;
  for (const EntryMeta& entry : append.entries) {
    ++expected;
    BALLAST_CHECK(entry.index == expected && entry.term <= leader_term);
    if (entry.index <= log.base().index) continue;
    if (log.term_at(entry.index) == entry.term) {
      BALLAST_CHECK(log.meta_at(entry.index) == entry,
                    "entry {} of term {} is not the primary's (node {}): one of the two logs was "
                    "damaged",
                    entry.index, entry.term, leader);
      continue;
    }
    if (entry.index <= log.last()) {
      BALLAST_CHECK(entry.index > commit, "committed entry {} of term {} conflicts with term {}",
                    entry.index, log.term_at(entry.index), entry.term);
      log.truncate_behind(entry.index - 1);
      configurations.truncate_behind(entry.index - 1);
    }
    log.append(entry);
    if (entry.kind == EntryKind::kConfiguration) {
      const auto given =
          std::ranges::find(append.configurations, entry.index, &ConfigurationAt::index);
      BALLAST_CHECK(given != append.configurations.end(), "entry {} came without its configuration",
                    entry.index);
      configurations.append(entry.index, given->configuration);
    }
  }
  if (BALLAST_PLANTED(kStaleAppendTruncates) && commit <= expected && expected < log.last()) {
    log.truncate_behind(expected);
  }
}

}  // namespace ballast::raft
