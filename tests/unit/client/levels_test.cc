#include <gtest/gtest.h>

#include <vector>

#include "client/client.h"
#include "client/internal/convert.h"

namespace ballast::client {
namespace {

using namespace std::chrono_literals;

TEST(Levels, a_read_level_is_a_word_or_a_bound) {
  struct Row {
    const char* text;
    ReadLevel level;
  };
  const std::vector<Row> table = {
      {"linearizable", ReadLevel::kLinearizable},       {"any", ReadLevel::kAny},
      {"bounded=500ms", ReadLevel::bounded(500ms)},     {"bounded=1ms", ReadLevel::bounded(1ms)},
      {"bounded=1500us", ReadLevel::bounded(1500us)},   {"bounded=2s", ReadLevel::bounded(2s)},
      {"bounded=5m", ReadLevel::bounded(5min)},         {"bounded=1h", ReadLevel::bounded(1h)},
      {"bounded=3600000000us", ReadLevel::bounded(1h)},
  };
  for (const Row& row : table) {
    const auto level = parse_read_level(row.text);
    ASSERT_TRUE(level) << row.text << ": " << level.error().message;
    EXPECT_EQ(*level, row.level) << row.text;
  }
}

TEST(Levels, what_is_no_read_level_is_refused_with_what_would_be) {
  struct Row {
    const char* text;
    const char* says;
  };
  const std::vector<Row> table = {
      {"", "linearizable, any or bounded=DURATION"},
      {"Any", "linearizable, any or bounded=DURATION"},
      {"bounded", "linearizable, any or bounded=DURATION"},
      {"bounded=", "such as bounded=500ms"},
      {"bounded=ms", "such as bounded=500ms"},
      {"bounded=500", "us, ms, s, m or h"},
      {"bounded=500 ms", "us, ms, s, m or h"},
      {"bounded=0.5s", "a whole number"},
      {"bounded=-1s", "a whole number"},
      {"bounded=1d", "us, ms, s, m or h"},
      {"bounded=0s", "1ms to 1h"},
      {"bounded=999us", "1ms to 1h"},
      {"bounded=2h", "1ms to 1h"},
      {"bounded=3600001ms", "1ms to 1h"},
      {"bounded=18446744073709551615h", "1ms to 1h"},
      {"bounded=99999999999999999999s", "1ms to 1h"},
  };
  for (const Row& row : table) {
    const auto level = parse_read_level(row.text);
    ASSERT_FALSE(level) << row.text;
    EXPECT_EQ(level.error().code, Errc::kInvalidArgument) << row.text;
    EXPECT_NE(level.error().message.find(row.says), std::string::npos) << level.error().message;
  }
}

TEST(Levels, a_bound_goes_to_the_node) {
  struct Row {
    ReadLevel level;
    pb::ReadLevel wire;
    uint64_t max_staleness_us;
  };
  const std::vector<Row> table = {
      {ReadLevel::kLinearizable, pb::READ_LINEARIZABLE, 0},
      {ReadLevel::kAny, pb::READ_ANY, 0},
      {ReadLevel::bounded(1500us), pb::READ_BOUNDED, 1500},
      {ReadLevel::bounded(2s), pb::READ_BOUNDED, 2'000'000},
      {ReadLevel::bounded(-1s), pb::READ_BOUNDED, 0},
  };
  for (const Row& row : table) {
    pb::Request request;
    set_read_level(request, row.level);
    EXPECT_EQ(request.read(), row.wire);
    EXPECT_EQ(request.max_staleness_us(), row.max_staleness_us);
  }
}

}  // namespace
}  // namespace ballast::client
