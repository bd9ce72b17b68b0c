// Where the log begins, and followers that need more than it holds (thesis chapter 5). The bytes of
// a snapshot are moved by the drivers; the core says when one is needed and takes note of it.

#include <algorithm>

#include "proto/base/check.h"
#include "server/raft/impl.h"

namespace ballast::raft {

void Core::Impl::compact(Index upto) {
  BALLAST_CHECK(upto <= commit, "compaction up to {}, committed is {}", upto, commit);
  if (upto <= log.base().index) return;
  log.compact(upto);
  configurations.compact(upto);
}

void Core::Impl::handle(const Message& message, const InstallSnapshot& install) {
  follow(message.from);
  if (log.term_at(install.at.index) == install.at.term) commit_to(install.at.index);
  if (install.at.index > commit) {
    snapshot_needed = install.at.index;
    return;
  }
  // It has as much by itself by now.
  send(message.from, AppendReply{.rejected = false, .index = commit},
       log.ticket_of(commit, next_ticket));
}

void Core::Impl::snapshot_installed(const Snapshot& snapshot) {
  if (snapshot.at.index <= commit) return;
  BALLAST_CHECK(role != Role::kLeader, "a snapshot at {} beyond the leader's commit {}",
                snapshot.at.index, commit);
  // A log that holds the snapshot's place goes on behind it as it is.
  if (log.term_at(snapshot.at.index) == snapshot.at.term) {
    BALLAST_CHECK(log.chain_at(snapshot.at.index) == snapshot.chain,
                  "a snapshot at {} of term {} was made of another log than this one",
                  snapshot.at.index, snapshot.at.term);
  } else {
    log.restart_behind(snapshot.at, snapshot.chain);
    configurations =
        ConfigurationHistory({snapshot.configuration_index, snapshot.configuration}, {});
  }
  commit_to(snapshot.at.index);
  if (leader != NodeId()) {
    send(leader, AppendReply{.rejected = false, .index = commit},
         log.ticket_of(commit, next_ticket));
  }
}

}  // namespace ballast::raft
