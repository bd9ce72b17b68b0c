// What a request may ask of the state machine, whatever its sender means: every answer is bounded,
// and what every reader relies on is refused if it isn't so.
#include <filesystem>
#include <limits>

#include "tests/unit/storage/state_testing.h"

namespace ballast::storage {
namespace {

using std::chrono::milliseconds;

class Limits : public testing::Test {
 protected:
  TemporaryDirectory directory_;
  StateTester t{directory_.path()};
};

// ---- what readers rely on ----

pb::Tensor shaped(const pb::BlockRef& block, const std::vector<uint64_t>& shape, int blocks) {
  pb::Tensor tensor = tensor_of({});
  tensor.mutable_shape()->Assign(shape.begin(), shape.end());
  for (int i = 0; i < blocks; ++i) *tensor.add_blocks() = block;
  return tensor;
}

TEST_F(Limits, a_shape_and_its_blocks_must_agree) {
  const auto block = t.stage(block_bytes(1, 100));  // tensors here have 16 values per block
  const struct {
    std::vector<uint64_t> shape;
    int blocks;
    bool agree;
  } cases[] = {
      {{16}, 1, true},   {{17}, 2, true},  {{4, 8}, 2, true}, {{}, 1, true},         {{0}, 0, true},
      {{5, 0}, 1, true}, {{16}, 2, false}, {{17}, 1, false},  {{16}, 0, false},      {{}, 0, false},
      {{}, 2, false},    {{0}, 2, false},  {{33}, 2, false},  {{1 << 20}, 1, false},
  };
  for (const auto& c : cases) {
    const auto result = t.commit({put_key("k", shaped(block, c.shape, c.blocks))});
    if (c.agree)
      EXPECT_APPLIED(result);
    else
      expect_refused(result, Errc::kInvalidArgument, "in blocks of 16 are not");
  }
  pb::Tensor no_block_size = shaped(block, {16}, 1);
  no_block_size.set_values_per_block(0);
  expect_refused(t.commit({put_key("k", no_block_size)}), Errc::kInvalidArgument, "blocks of 0");
}

TEST_F(Limits, a_shape_whose_product_overflows_is_refused) {
  const auto block = t.stage(block_bytes(1, 100));
  constexpr uint64_t kHuge = uint64_t{1} << 32;
  const std::vector<uint64_t> shapes[] = {
      {kHuge, kHuge},          // 2^64 is 0 to whoever does not look
      {kHuge, kHuge, 0},       // and whoever looks too late
      {kHuge + 1, kHuge + 1},  // a small remainder
      {uint64_t{1} << 49},     // no overflow, but no tensor either
      {std::numeric_limits<uint64_t>::max()},
  };
  for (const auto& shape : shapes)
    for (const int blocks : {0, 1})
      expect_refused(t.commit({put_key("k", shaped(block, shape, blocks))}), Errc::kInvalidArgument,
                     "more than");
  // Nor beside a block list, whose blocks nobody counts here.
  pb::Tensor listed = shaped(block, shapes[0], 0);
  pb::BlockList list;
  *list.add_blocks() = block;
  *listed.mutable_block_list() = t.stage_message(list);
  expect_refused(t.commit({put_key("k", listed)}), Errc::kInvalidArgument, "more than");
}

TEST_F(Limits, a_tensor_must_say_what_it_is) {
  const auto block = t.stage(block_bytes(1, 100));
  pb::Tensor no_dtype = tensor_of({block});
  no_dtype.set_dtype(0);
  pb::Tensor no_codec = tensor_of({block});
  no_codec.clear_codec();
  expect_refused(t.commit({put_key("k", no_dtype)}), Errc::kInvalidArgument, "no dtype");
  expect_refused(t.commit({put_key("k", no_codec)}), Errc::kInvalidArgument, "no codec");
  pb::Tensor newer = tensor_of({block});
  newer.set_dtype(250);
  newer.mutable_codec()->set_id(250);
  EXPECT_APPLIED(t.commit({put_key("k", newer)})) << "a newer client's";
}

// ---- work and memory ----

TEST_F(Limits, a_commit_names_a_million_blocks_at_most) {
  const auto block = t.stage(block_bytes(1, 100));
  // Lists beside which a tensor names each of its blocks: eleven of them make 999,999 references.
  constexpr int kLists = 11;
  constexpr int kListed = 90'908;
  static_assert(kLists * (kListed + 1) + 1 == limits::kBlocksPerCommitMax);
  pb::BlockList list;
  for (int i = 0; i < kListed; ++i) *list.add_blocks() = block;
  pb::Tensor listed = tensor_of({});
  *listed.mutable_block_list() = t.stage_message(list);
  std::vector<pb::Operation> operations;
  for (int i = 0; i < kLists; ++i) operations.push_back(put_key(fmt::format("k{}", i), listed));

  operations.push_back(put_key("last", tensor_of({block, block})));
  expect_refused(t.commit(operations), Errc::kInvalidArgument, "more than 1000000 blocks");
  EXPECT_FALSE(t.machine().key("k0"));
  operations.back() = put_key("last", tensor_of({block}));
  EXPECT_APPLIED(t.commit(operations));
  EXPECT_APPLIED(t.commit({put_key("more", tensor_of({block}))})) << "each commit counts anew";
  // What is taken away does not count: it was there, so it had its place.
  EXPECT_APPLIED(t.commit({delete_prefix("")}));
  EXPECT_FALSE(t.machine().key("k0"));
}

std::string session_name(uint64_t number) { return fmt::format("{:016}", number); }

TEST_F(Limits, idle_sessions_make_room_for_new_ones) {
  const auto idle = static_cast<uint64_t>(milliseconds(limits::kRequestDeadlineMax).count());
  std::vector<Entry> entries;
  for (uint64_t i = 0; i < limits::kSessionsMax; ++i)
    entries.push_back(commit_entry(t.next() + i, t.now, {}, {}, session_name(i), 5));
  const auto applied = t.try_apply(entries);
  ASSERT_TRUE(applied) << applied.error().to_string();

  const std::string newcomer(16, 'n');
  t.now += idle - 1;
  expect_refused(t.commit_as(newcomer, 1, {}), Errc::kOverloaded, "sessions are open");
  EXPECT_APPLIED(t.commit_as(session_name(0), 6, {})) << "who has a session keeps it";
  t.now += 1;
  EXPECT_APPLIED(t.commit_as(newcomer, 1, {}));
  expect_refused(t.commit_as(newcomer, 0, {}), Errc::kConflict, "already passed");
  // One of those that were idle has gone, and no other.
  expect_refused(t.commit_as(session_name(0), 5, {}), Errc::kConflict, "already passed");
  expect_refused(t.commit_as(session_name(2), 4, {}), Errc::kConflict, "already passed");
  EXPECT_APPLIED(t.commit_as(session_name(1), 4, {})) << "the state has forgotten its sequence 5";
}

// ---- answers ----

TEST_F(Limits, a_refusal_that_quotes_a_long_name_is_short) {
  const std::string name(50'000, 'n');
  pb::Tensor tensor = tensor_of({});
  tensor.add_shape(3);
  for (const auto& operation : {put_key(name, tensor), delete_key(name), delete_version(name, 1),
                                set_alias(name, "prod", 1), rollback("m", name)}) {
    const auto result = t.commit_as(std::string(16, 's'), t.next(), {operation});
    EXPECT_NE(result.code(), 0u);
    EXPECT_LE(result.message().size(), limits::kErrorMessageBytesMax + 4) << "it is in a row, too";
  }
}

// A reply that grew with the damage could not be sent when it is needed most.
TEST_F(Limits, many_damaged_blocks_are_reported_page_by_page) {
  constexpr size_t kBlocks = limits::kDamagedReportedMax + 10;
  for (uint64_t i = 0; i < kBlocks; ++i) t.stage(block_bytes(i, 100));
  t.payloads().lose();
  const auto first = t.machine().verify_blocks(std::nullopt, {std::chrono::hours(1)});
  ASSERT_TRUE(first) << first.error().to_string();
  EXPECT_EQ(static_cast<size_t>(first->damaged_size()), limits::kDamagedReportedMax);
  EXPECT_LT(first->ByteSizeLong(), limits::kFrameHeaderBytesMax);
  const auto next = Digest::from_raw(first->next());
  ASSERT_TRUE(next) << "there is more";
  const auto second = t.machine().verify_blocks(*next, {std::chrono::hours(1)});
  ASSERT_TRUE(second);
  EXPECT_EQ(second->damaged_size(), 10);
  EXPECT_EQ(second->next(), "");
}

}  // namespace
}  // namespace ballast::storage
