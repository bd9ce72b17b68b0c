#include "server/raft/quorum.h"

#include <algorithm>
#include <functional>

#include "proto/base/check.h"

namespace ballast::raft {

uint64_t majority_reached(std::span<uint64_t> reached) {
  BALLAST_CHECK(!reached.empty());
  // With the values in falling order, the k-th largest is reached by k voters.
  auto kth = reached.begin() + static_cast<std::ptrdiff_t>(majority(reached.size()) - 1);
  std::nth_element(reached.begin(), kth, reached.end(), std::greater<>());
  return *kth;
}

}  // namespace ballast::raft
