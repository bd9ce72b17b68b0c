// Frozen samples of what lies on disk: a change of the bytes is a change of the format.
// BALLAST_REWRITE=1 writes them anew.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace ballast::storage {

inline std::string golden(const std::string& name, const std::string& now) {
  const std::filesystem::path path = std::filesystem::path(BALLAST_GOLDEN_DIRECTORY) / name;
  if (std::getenv("BALLAST_REWRITE") != nullptr) {
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << now;
  }
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path << " is missing; run the test once with BALLAST_REWRITE=1";
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace ballast::storage
