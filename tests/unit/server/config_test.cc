#include "server/config.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace ballast::server {
namespace {

constexpr const char* kGood = R"([node]
id = 2
name = "n2"
listen = "127.0.0.1:7401"
data_dir = "/data"

[cluster]
id = "9b2f0000-0000-4000-8000-000000000000"
members = [
  { id = 1, name = "n1", address = "127.0.0.1:7400" },
  { id = 2, name = "n2", address = "127.0.0.1:7401" },
]

[log]
segment_mib = 16
)";

class ConfigTest : public ::testing::Test {
 protected:
  Result<Config> load(const std::string& text) {
    std::ofstream(path_) << text;
    return load_config(path_);
  }
  std::string replaced(const std::string& what, const std::string& by) {
    std::string text = kGood;
    text.replace(text.find(what), what.size(), by);
    return text;
  }
  void expect_error(const std::string& text, const std::string& part) {
    const auto config = load(text);
    ASSERT_FALSE(config) << text;
    EXPECT_NE(config.error().message.find(part), std::string::npos) << config.error().message;
    EXPECT_NE(config.error().message.find(path_), std::string::npos) << config.error().message;
    EXPECT_EQ(config.error().message.find('\n'), std::string::npos) << config.error().message;
  }
  void TearDown() override { std::filesystem::remove(path_); }

  std::string path_ =
      ::testing::TempDir() + "ballast_config_test." + std::to_string(::getpid()) + ".toml";
};

TEST_F(ConfigTest, reads_a_good_file) {
  const auto config = load(kGood);
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->cluster.self, NodeId(2));
  EXPECT_EQ(config->cluster.members.size(), 2u);
  EXPECT_EQ(config->cluster.find(NodeId(1))->address.port, 7400);
  EXPECT_EQ(config->segment_bytes, 16u << 20);
  EXPECT_EQ(config->data_directory, "/data");
}

TEST_F(ConfigTest, says_what_is_wrong_and_where) {
  expect_error(replaced("segment_mib", "segmnet_mib"), "line 15: unknown key 'segmnet_mib'");
  expect_error(replaced("[log]", "[logs]"), "unknown key 'logs'");
  expect_error(replaced("segment_mib = 16", "segment_mib = 1"), "must be a number from 16");
  expect_error(replaced("segment_mib = 16", "segment_mib = \"16\""), "must be a number");
  expect_error(replaced("name = \"n2\"\nlisten", "listen"), "lacks 'name'");
  expect_error(replaced("id = 2\n", "id = 3\n"), "no such member");
  expect_error(replaced("127.0.0.1:7401\"\ndata", "0.0.0.0:7401\"\ndata"), "without TLS");
  expect_error(replaced("127.0.0.1:7400", "127.0.0.1"), "HOST:PORT");
  expect_error(replaced("9b2f0000-", "9b2f0000"), "UUID");
  expect_error(replaced("{ id = 1, name = \"n1\"", "{ id = 2, name = \"n1\""), "has the id");
  expect_error(replaced("data_dir = \"/data\"", "data_dir = "), "line 5");
}

TEST_F(ConfigTest, a_missing_file_is_named) {
  const auto config = load_config("/nonexistent/ballast.toml");
  ASSERT_FALSE(config);
  EXPECT_NE(config.error().message.find("/nonexistent/ballast.toml"), std::string::npos);
}

}  // namespace
}  // namespace ballast::server
