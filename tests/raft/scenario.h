// Runs one scenario file; the language stands in README.md.
#pragma once

#include <string>
#include <string_view>

namespace ballast::raft::testing {

// The text of the scenario with the output of every block replaced by what really happened. A
// scenario is right if that changes nothing.
std::string run_scenario(std::string_view text);

}  // namespace ballast::raft::testing
