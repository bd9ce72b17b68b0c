#include "tests/sim/staleness.h"

#include <fmt/format.h>

namespace ballast::sim {

uint64_t bounded_from_us(uint64_t judged_us, uint64_t bound_us, uint64_t rate_ppm) {
  // Both ends of what the node measures are cut to whole microseconds.
  const uint64_t true_us = (bound_us + 1) * 1'000'000 / rate_ppm + 1;
  return judged_us > true_us ? judged_us - true_us : 0;
}

std::vector<std::string> stale_reads(const History& history) {
  std::vector<std::string> wrong;
  for (const ReadRecord& read : history.reads) {
    for (const AckRecord& ack : history.acks) {
      if (ack.at_us < read.shows_us && ack.index > read.applied)
        wrong.push_back(fmt::format(
            "a {} read of '{}' must show what was acknowledged before {} us, as entry {} was at {} "
            "us, and saw entry {}",
            read.bounded ? "bounded" : "linearizable", read.key, read.shows_us, ack.index,
            ack.at_us, read.applied));
    }
    for (const WriteRecord& write : history.writes) {
      if (write.code && write.completed_us < read.shows_us && write.index > read.applied.value())
        wrong.push_back(fmt::format("a {} read of '{}' is older than write {} that was complete",
                                    read.bounded ? "bounded" : "linearizable", read.key,
                                    write.index));
    }
  }
  return wrong;
}

}  // namespace ballast::sim
