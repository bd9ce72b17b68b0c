// Whether reads are as fresh as they promise.
//
// A linearizable read must show everything that was acknowledged before it began. A bounded read
// may lack the last moments before its node judged how fresh it is: as many as the bound says, by
// the clock of that node, which goes at its own rate.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/sim/history.h"

namespace ballast::sim {

// Before which moment of the true time everything must be shown, if a node whose clock goes at
// `rate_ppm` judged at `judged_us`. Never a moment that is too late.
uint64_t bounded_from_us(uint64_t judged_us, uint64_t bound_us, uint64_t rate_ppm);

// Returns what the reads lack.
std::vector<std::string> stale_reads(const History& history);

}  // namespace ballast::sim
