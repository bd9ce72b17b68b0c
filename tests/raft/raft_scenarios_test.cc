// Each file of testdata/ is a test. BALLAST_REWRITE=1 writes the present outputs into the files:
// commit only what you have read and understood.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/raft/scenario.h"

namespace ballast::raft::testing {
namespace {

std::vector<std::string> scenario_names() {
  std::vector<std::string> names;
  for (const auto& file : std::filesystem::directory_iterator(BALLAST_RAFT_TESTDATA)) {
    if (file.path().extension() == ".txt") names.push_back(file.path().stem().string());
  }
  std::ranges::sort(names);
  return names;
}

class RaftScenario : public ::testing::TestWithParam<std::string> {};

TEST_P(RaftScenario, happens_as_told) {
  const std::string path = std::string(BALLAST_RAFT_TESTDATA) + "/" + GetParam() + ".txt";
  std::stringstream told;
  told << std::ifstream(path).rdbuf();
  ASSERT_FALSE(told.str().empty()) << path;
  const std::string happened = run_scenario(told.str());
  EXPECT_EQ(happened.find("VIOLATION"), std::string::npos) << happened;
  EXPECT_EQ(happened.find("error: "), std::string::npos) << happened;
  if (std::getenv("BALLAST_REWRITE") != nullptr) {
    std::ofstream(path) << happened;
    return;
  }
  EXPECT_EQ(happened, told.str()) << path;
}

INSTANTIATE_TEST_SUITE_P(Testdata, RaftScenario, ::testing::ValuesIn(scenario_names()),
                         [](const auto& one) { return one.param; });

}  // namespace
}  // namespace ballast::raft::testing
