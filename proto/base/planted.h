// Bugs that other systems had, planted on purpose: to measure whether the simulator finds them.
//
// Programs that are shipped contain none of it: BALLAST_PLANTED(name) is false there, known to the
// compiler. In the library that the test of the simulator is built of, it is true for the bug that
// was chosen.
#pragma once

namespace ballast {

enum class PlantedBug : int {
  kNone = 0,
  kVoteNotDurable,            // a vote is sent before it is stored
  kVoteClearedInTerm,         // a step down within a term forgets the vote
  kAckBeforeDurable,          // a follower acknowledges what its disk does not hold yet
  kOwnMatchBeforeDurable,     // a leader counts its own entries before its disk holds them
  kCommitOfOlderTermByCount,  // an older term's entry is committed because a majority holds it
  kNoUpToDateCheck,           // a vote goes to a candidate whose log is behind
  kStaleAppendTruncates,      // an append that comes late cuts off what follows it
  kReadBeforeFirstCommit,     // a leader serves reads before it has committed in its term
  kReadRoundReused,           // an answer to an old round confirms a younger one
  kReadWithoutQuorum,         // a leader serves reads without asking anybody
  kCommitBeyondMatch,         // a heartbeat commits what the follower may have otherwise
  kAppliedBeforeData,         // the applied index is written apart from, and before, the data
  kSessionNotConsulted,       // a retry is applied once more
  kTornTailKept,              // recovery trusts a record whose payload was cut off
  kRotIsTornTail,             // recovery takes rot for a torn tail and forgets what it said
  kSecondPlaceIgnored,        // recovery refuses rot that it could have mended
  kAckAllOfMajority,          // sync_all is acknowledged by a majority
  kNoPreVote,                 // whoever times out raises the term at once
  kConfigurationAtCommit,     // a configuration is in force only when it is committed
  kLateWriteCounts,           // a write that completes counts for entries that replaced its own
  kDiskNotChecked,            // a wiped disk goes on under the name of the one before
  kFreshSinceAnswer,          // a replica takes itself for as fresh as an answer, not its question
  kFreshBeforeApplied,        // and before it has applied what the answer said
  kRowsNotFlushed,            // the log forgets, and segments go, before the rows are durable
  kUseNotCounted,             // what is live in a segment is counted too low
  kOldHeaderKept,             // a segment's file is used again with its old header
  kHalfSnapshotInstalled,     // a snapshot takes the place of the rows before it is whole
  kPlaceBeforeBytes,          // a row says where a block lies whose bytes are not durable yet
  kSnapshotGap,               // the log begins one entry too late behind a snapshot
  kSnapshotsPlaceNotChecked,  // the log goes on behind a snapshot that it does not reach
};

#ifdef BALLAST_PLANTED_BUGS
inline PlantedBug planted_bug = PlantedBug::kNone;
#define BALLAST_PLANTED(name) (::ballast::planted_bug == ::ballast::PlantedBug::name)
#else
#define BALLAST_PLANTED(name) false
#endif

}  // namespace ballast
