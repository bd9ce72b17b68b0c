#include "server/raft/read_only.h"

#include <utility>

#include "proto/base/planted.h"

namespace ballast::raft {

void ReadOnly::start_round(Index commit) {
  if (!BALLAST_PLANTED(kReadRoundReused) || round_ == 0) ++round_;
  rounds_.push_back({round_, commit, std::exchange(waiting_, {})});
}

std::vector<ReadOnly::Confirmed> ReadOnly::confirm(uint64_t round) {
  std::vector<Confirmed> confirmed;
  while (!rounds_.empty() && rounds_.front().number <= round) {
    const Round& first = rounds_.front();
    for (Request request : first.requests) confirmed.push_back({request, first.index});
    rounds_.pop_front();
  }
  return confirmed;
}

std::vector<ReadOnly::Request> ReadOnly::clear() {
  std::vector<Request> refused;
  for (const Round& round : rounds_) {
    refused.insert(refused.end(), round.requests.begin(), round.requests.end());
  }
  refused.insert(refused.end(), waiting_.begin(), waiting_.end());
  rounds_.clear();
  waiting_.clear();
  return refused;
}

}  // namespace ballast::raft
