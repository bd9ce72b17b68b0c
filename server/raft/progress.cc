#include "server/raft/progress.h"

#include <algorithm>

#include "proto/base/check.h"

namespace ballast::raft {

void Inflight::add(Index last, size_t entries, uint64_t bytes) {
  BALLAST_CHECK(appends_.empty() || appends_.back().last < last);
  appends_.push_back({last, entries, bytes});
  entries_ += entries;
  bytes_ += bytes;
}

void Inflight::free_up_to(Index index) {
  while (!appends_.empty() && appends_.front().last <= index) {
    entries_ -= appends_.front().entries;
    bytes_ -= appends_.front().bytes;
    appends_.pop_front();
  }
}

void Inflight::clear() {
  appends_.clear();
  entries_ = 0;
  bytes_ = 0;
}

void Progress::sent(size_t entries, uint64_t bytes) {
  if (probing_) {
    probe_sent_ = true;
    return;
  }
  if (entries == 0) return;
  next_ = next_ + entries;
  inflight_.add(next_ - 1, entries, bytes);
}

void Progress::needs_snapshot(Index at) {
  become_probe();
  snapshot_ = at;
}

bool Progress::acknowledged(Index index) {
  if (snapshot_ != Index() && index >= snapshot_) become_probe();
  const bool rose = index > match_;
  if (rose) stalled_ = false;
  match_ = std::max(match_, index);
  next_ = std::max(next_, index + 1);
  inflight_.free_up_to(index);
  // An answer from below match is an old one and proves nothing about the present connection.
  if (probing_ && snapshot_ == Index() && index == match_) {
    probing_ = false;
    probe_sent_ = false;
    next_ = match_ + 1;
  }
  return rose;
}

bool Progress::rejected(Index previous, Index guess) {
  if (snapshot_ != Index()) return false;
  if (!probing_) {
    // What is at or below match was durable there: the refusal is older than that.
    if (previous <= match_) return false;
    become_probe();
    return true;
  }
  // Only the answer to the probe that is under way says something about it.
  if (next_ - 1 != previous) return false;
  next_ = std::max(std::min(previous, guess + 1), match_ + 1);
  probe_sent_ = false;
  probe_empty_ = false;
  return true;
}

void Progress::heartbeat_sent() {
  stalled_ = !probing_ && match_ == match_at_heartbeat_;
  match_at_heartbeat_ = match_;
}

bool Progress::heartbeat_answered(Index last) {
  if (probing_) {
    if (probe_sent_) probe_empty_ = true;
    probe_sent_ = false;
    return false;
  }
  const bool stalled = stalled_ && match_ < last;
  stalled_ = false;  // once per heartbeat
  return stalled;
}

void Progress::lost() {
  // A follower that is probed already has not said what it has, and match is 0 in a new leader's
  // first moments: starting over from match would send it the whole log again.
  if (!probing_ || snapshot_ != Index()) become_probe();
  inflight_.clear();
  // The probe waits for the first heartbeat that is answered, instead of going into the void.
  probe_sent_ = true;
  lost_ = true;
}

void Progress::heard() {
  heard_ = true;
  lost_ = false;
  silence_ticks_ = 0;
}

void Progress::become_probe() {
  snapshot_ = Index();
  probing_ = true;
  probe_sent_ = false;
  probe_empty_ = false;
  next_ = match_ + 1;
  inflight_.clear();
}

}  // namespace ballast::raft
