#include "storage/kv/row_keys.h"
#include "tests/unit/storage/state_testing.h"

namespace ballast::storage {
namespace {

const std::string kSession(16, 's');

class Apply : public testing::Test {
 protected:
  TemporaryDirectory directory_;
  StateTester t{directory_.path()};
};

TEST_F(Apply, noop_and_configuration_move_the_position_only) {
  const auto empty = t.machine().applied();
  EXPECT_EQ(empty.index, Index(0));
  t.apply({Term(1), Index(1), EntryKind::kNoop, {}, {}});
  t.apply({Term(4), Index(2), EntryKind::kConfiguration, Bytes::copy_of("anything"), {}});
  EXPECT_EQ(t.machine().applied().index, Index(2));
  EXPECT_EQ(t.machine().applied().term, Term(4));
  t.reopen();
  EXPECT_EQ(t.machine().applied().index, Index(2));
}

TEST_F(Apply, a_block_is_stored_once_and_its_lease_extended) {
  const Bytes bytes = block_bytes(1, 100'000);
  const auto reference = t.stage(bytes, kMinute);
  EXPECT_EQ(t.machine().applied().blocks, 1u);
  EXPECT_EQ(t.machine().applied().block_bytes, 100'000u);
  t.now += kMinute / 2;
  t.stage(bytes, kMinute);
  t.stage(bytes, 1);  // never shortened
  EXPECT_EQ(t.machine().applied().blocks, 1u);
  t.now += kMinute - 1;
  EXPECT_EQ(t.commit({expire(10)}).operations(0).rows(), 0u);
  EXPECT_TRUE(t.has(reference));
  t.now += 1;
  EXPECT_EQ(t.commit({expire(10)}).operations(0).rows(), 1u);
  EXPECT_FALSE(t.has(reference));
  EXPECT_EQ(t.machine().applied().blocks, 0u);
  EXPECT_EQ(t.machine().applied().block_bytes, 0u);
}

TEST_F(Apply, log_time_never_goes_back) {
  t.stage(block_bytes(1, 10));
  const uint64_t before = t.machine().applied().time_ms;
  t.now -= kHour;
  t.commit({});
  EXPECT_EQ(t.machine().applied().time_ms, before);
}

TEST_F(Apply, what_is_not_a_valid_entry_stops_the_node) {
  const Bytes bytes = block_bytes(1, 100);
  const Bytes header = block_entry(1, bytes, t.now, kHour).header;
  const Entry garbage(Term(1), Index(1), EntryKind::kCommit,
                      Bytes::copy_of("\xff\xff\xff not a message"));
  const Entry wrong(Term(1), Index(1), EntryKind::kBlock, header, block_bytes(2, 100));
  const Entry shorter(Term(1), Index(1), EntryKind::kBlock, header, bytes.slice(0, 99));
  for (const Entry& entry : {garbage, wrong, shorter}) {
    const auto applied = t.try_apply({&entry, 1});
    ASSERT_FALSE(applied);
    EXPECT_EQ(applied.error().code, Errc::kCorrupt);
    EXPECT_EQ(t.machine().applied().index, Index(0)) << "nothing of the batch is applied";
  }
}

TEST_F(Apply, put_key_names_its_blocks) {
  const auto a = t.stage(block_bytes(1, 1000));
  const auto b = t.stage(block_bytes(2, 2000));
  EXPECT_APPLIED(t.commit({put_key("k", tensor_of({a, b, a}))}));
  const auto row = t.machine().key("k");
  ASSERT_TRUE(row);
  EXPECT_EQ(row->revision(), 3u);
  EXPECT_EQ(row->tensor().blocks_size(), 3);
  t.now += 2 * kHour;
  EXPECT_EQ(t.commit({expire(10)}).operations(0).rows(), 0u);
  EXPECT_EQ(t.commit({delete_key("k")}).operations(0).rows(), 1u);
  EXPECT_FALSE(t.has(a)) << "its lease is over, so it goes with its last reference";
  EXPECT_FALSE(t.has(b));
  expect_refused(t.commit({delete_key("k")}), Errc::kNotFound, "key 'k'");
}

TEST_F(Apply, replacing_a_key_releases_its_blocks) {
  const auto a = t.stage(block_bytes(1, 1000));
  const auto b = t.stage(block_bytes(2, 1000), 3 * kHour);
  const auto c = t.stage(block_bytes(3, 1000));
  EXPECT_APPLIED(t.commit({put_key("k", tensor_of({a, b}))}));
  t.now += 2 * kHour;
  EXPECT_APPLIED(t.commit({put_key("k", tensor_of({c}))}));
  EXPECT_FALSE(t.has(a));
  EXPECT_TRUE(t.has(b)) << "its lease is not over";
  t.now += 2 * kHour;
  EXPECT_EQ(t.commit({expire(10)}).operations(0).rows(), 1u);
  EXPECT_FALSE(t.has(b));
  EXPECT_APPLIED(t.commit({put_key("k", tensor_of({c}))}));
  EXPECT_TRUE(t.has(c)) << "replaced by itself";
}

TEST_F(Apply, put_key_with_a_block_list) {
  pb::BlockList list;
  for (uint64_t i = 0; i < 300; ++i) *list.add_blocks() = t.stage(block_bytes(i, 100));
  pb::Tensor tensor = tensor_of({});
  *tensor.mutable_block_list() = t.stage_message(list);
  EXPECT_APPLIED(t.commit({put_key("k", tensor)}));
  t.now += 2 * kHour;
  t.commit({expire(1000)});
  EXPECT_EQ(t.machine().applied().blocks, 301u);
  EXPECT_APPLIED(t.commit({delete_key("k")}));
  EXPECT_EQ(t.machine().applied().blocks, 0u);
}

TEST_F(Apply, a_difference_keeps_what_it_is_a_difference_to) {
  pb::BlockList list;
  for (uint64_t i = 0; i < 3; ++i) *list.add_blocks() = t.stage(block_bytes(i, 100));
  pb::Tensor base = tensor_of({});
  *base.mutable_block_list() = t.stage_message(list);
  const auto middle = t.stage(block_bytes(10, 100));
  const auto top = t.stage(block_bytes(11, 100));
  pb::Tensor difference = tensor_of({middle}, "w");
  *difference.mutable_base() = base;
  pb::Tensor second = tensor_of({top}, "w");
  *second.mutable_base() = difference;
  EXPECT_APPLIED(t.commit({put_key("k", base)}));
  EXPECT_APPLIED(t.commit({publish("m", t.stage_manifest("m", {difference}))}));
  EXPECT_APPLIED(t.commit({publish("m", t.stage_manifest("m", {second}))}));
  t.now += 2 * kHour;
  EXPECT_EQ(t.commit({expire(1000)}).operations(0).rows(), 0u);
  EXPECT_APPLIED(t.commit({delete_key("k")}));
  EXPECT_APPLIED(t.commit({delete_version("m", 1)}));
  t.commit({expire(1000)});
  for (const auto& block : list.blocks()) EXPECT_TRUE(t.has(block));
  EXPECT_TRUE(t.has(base.block_list()));
  EXPECT_TRUE(t.has(middle));
  EXPECT_APPLIED(t.commit({delete_version("m", 2)}));
  EXPECT_EQ(t.machine().applied().blocks, 0u);
}

// `depth` differences on top of each other, each of one block.
pb::Tensor chain(const pb::BlockRef& block, size_t depth) {
  pb::Tensor tensor = tensor_of({block});
  for (size_t i = 0; i < depth; ++i) {
    pb::Tensor above = tensor_of({block});
    *above.mutable_base() = std::move(tensor);
    tensor = std::move(above);
  }
  return tensor;
}

TEST_F(Apply, differences_are_bounded) {
  const auto a = t.stage(block_bytes(1, 100));
  EXPECT_APPLIED(t.commit({put_key("deep", chain(a, limits::kBaseDepthMax))}));
  for (const size_t depth : {limits::kBaseDepthMax + 1, size_t{50}}) {
    expect_refused(t.commit({put_key("deeper", chain(a, depth))}), Errc::kInvalidArgument, "deep");
    expect_refused(t.commit({publish("m", t.stage_manifest("m", {chain(a, depth)}))}),
                   Errc::kInvalidArgument, "deep");
  }
  // Too deep for a message at all.
  expect_refused(t.commit({publish("m", t.stage_manifest("m", {chain(a, 200)}))}),
                 Errc::kInvalidArgument, "is not a ManifestPart");
  EXPECT_FALSE(t.machine().key("deeper"));
  EXPECT_APPLIED(t.commit({delete_key("deep")}));
  t.now += 2 * kHour;
  t.commit({expire(1000)});
  EXPECT_FALSE(t.has(a)) << "as many references went as came";
}

TEST_F(Apply, a_base_is_checked_like_the_tensor) {
  const auto a = t.stage(block_bytes(1, 100));
  pb::Tensor without_dtype = chain(a, 2);
  without_dtype.mutable_base()->mutable_base()->clear_dtype();
  expect_refused(t.commit({put_key("k", without_dtype)}), Errc::kInvalidArgument, "no dtype");
  pb::Tensor missing = chain(a, 1);
  *missing.mutable_base()->mutable_blocks(0) = reference_of(block_bytes(2, 100));
  expect_refused(t.commit({put_key("k", missing)}), Errc::kMissingBlocks, "1 block");
  // Many tensors may name one list, and each of them counts.
  pb::BlockList list;
  for (int i = 0; i < 80'000; ++i) *list.add_blocks() = a;
  pb::Tensor base = tensor_of({});
  *base.mutable_block_list() = t.stage_message(list);
  pb::Tensor tensor = tensor_of({a});
  *tensor.mutable_base() = base;
  expect_refused(
      t.commit({publish("m", t.stage_manifest("m", std::vector<pb::Tensor>(13, tensor)))}),
      Errc::kInvalidArgument, "more than 1000000 blocks");
}

TEST_F(Apply, missing_blocks_are_named) {
  std::vector<pb::BlockRef> references;
  for (uint64_t i = 0; i < 100; ++i) references.push_back(reference_of(block_bytes(i, 10)));
  const auto result = t.commit({put_key("k", tensor_of(references))});
  expect_refused(result, Errc::kMissingBlocks, "100 blocks");
  EXPECT_EQ(result.missing_size(), 64);
  EXPECT_FALSE(t.machine().key("k"));

  pb::Tensor tensor = tensor_of({});
  *tensor.mutable_block_list() = references[0];
  const auto listed = t.commit({put_key("k", tensor)});
  ASSERT_EQ(listed.missing_size(), 1);
  EXPECT_EQ(listed.missing(0), references[0].digest());
}

TEST_F(Apply, put_key_refusals) {
  const auto a = t.stage(block_bytes(1, 1000));
  pb::BlockRef longer = a;
  longer.set_length(1001);
  pb::BlockRef other_crc = a;
  other_crc.set_crc32c(a.crc32c() + 1);
  pb::BlockRef short_digest = a;
  short_digest.set_digest("abc");
  pb::Tensor both = tensor_of({a});
  *both.mutable_block_list() = a;
  pb::Tensor no_list = tensor_of({});
  *no_list.mutable_block_list() = t.stage(block_bytes(2, 5000));
  pb::Tensor deep = tensor_of({a});
  for (int i = 0; i < 17; ++i) deep.add_shape(1);
  const struct {
    std::string key;
    pb::Tensor tensor;
    std::string part;
  } cases[] = {
      {"", tensor_of({a}), "empty"},
      {"a@b", tensor_of({a}), "'@'"},
      {"a\tb", tensor_of({a}), "control"},
      {std::string(1025, 'k'), tensor_of({a}), "1025"},
      {"k", tensor_of({longer}), "1001"},
      {"k", tensor_of({other_crc}), "CRC32C"},
      {"k", tensor_of({short_digest}), "digest of 3 bytes"},
      {"k", both, "both blocks and a block list"},
      {"k", no_list, "is not a BlockList"},
      {"k", deep, "rank 18"},
  };
  const std::string before = t.machine().key("k") ? "there" : "";
  for (const auto& c : cases)
    expect_refused(t.commit({put_key(c.key, c.tensor)}), Errc::kInvalidArgument, c.part);
  EXPECT_EQ(before, "");
  EXPECT_FALSE(t.machine().key("k"));
}

TEST_F(Apply, delete_prefix_counts_rows) {
  const auto a = t.stage(block_bytes(1, 1000));
  for (const char* key : {"m/1", "m/2", "m/3", "n/1"})
    EXPECT_APPLIED(t.commit({put_key(key, tensor_of({a}))}));
  EXPECT_EQ(t.commit({delete_prefix("m/")}).operations(0).rows(), 3u);
  EXPECT_EQ(t.commit({delete_prefix("m/")}).operations(0).rows(), 0u);
  EXPECT_TRUE(t.machine().key("n/1"));
  EXPECT_TRUE(t.has(a));
  t.now += 2 * kHour;
  EXPECT_EQ(t.commit({delete_prefix("")}).operations(0).rows(), 1u);
  EXPECT_FALSE(t.has(a));
}

TEST_F(Apply, delete_prefix_sees_the_keys_of_its_own_commit) {
  const auto a = t.stage(block_bytes(1, 1000));
  EXPECT_APPLIED(t.commit({put_key("p1", tensor_of({a})), put_key("p3", tensor_of({a}))}));
  const auto result = t.commit({put_key("p2", tensor_of({a})), delete_key("p3"), delete_prefix("p"),
                                put_key("p4", tensor_of({a}))});
  EXPECT_APPLIED(result);
  EXPECT_EQ(result.operations(2).rows(), 2u);
  EXPECT_TRUE(t.machine().key("p4"));
  for (const char* key : {"p1", "p2", "p3"}) EXPECT_FALSE(t.machine().key(key)) << key;
}

TEST_F(Apply, delete_prefix_is_bounded) {
  const auto a = t.stage(block_bytes(1, 10));
  for (int base = 0; base < 10'100; base += 100) {
    std::vector<pb::Operation> operations;
    for (int i = base; i < base + 100; ++i)
      operations.push_back(put_key(fmt::format("k{:06}", i), tensor_of({a})));
    EXPECT_APPLIED(t.commit(operations));
  }
  EXPECT_EQ(t.commit({delete_prefix("k")}).operations(0).rows(), 10'000u);
  EXPECT_EQ(t.commit({delete_prefix("k")}).operations(0).rows(), 100u);
  EXPECT_EQ(t.commit({delete_prefix("k")}).operations(0).rows(), 0u);
}

TEST_F(Apply, a_commit_is_all_or_nothing) {
  const auto a = t.stage(block_bytes(1, 1000));
  const auto b = t.stage(block_bytes(2, 1000));
  EXPECT_APPLIED(t.commit({put_key("old", tensor_of({a}))}));
  const auto position = t.machine().applied();
  expect_refused(t.commit({put_key("new", tensor_of({b})), delete_key("old"), delete_key("none")}),
                 Errc::kNotFound, "key 'none'");
  EXPECT_TRUE(t.machine().key("old"));
  EXPECT_FALSE(t.machine().key("new"));
  EXPECT_EQ(t.machine().applied().blocks, position.blocks);
  t.now += 2 * kHour;
  EXPECT_EQ(t.commit({expire(10)}).operations(0).rows(), 1u) << "nothing names b";
}

TEST_F(Apply, preconditions) {
  const auto a = t.stage(block_bytes(1, 1000));
  const auto put = put_key("k", tensor_of({a}));
  expect_refused(t.commit({put}, {key_at("k", 5)}), Errc::kConflict, "does not exist");
  EXPECT_APPLIED(t.commit({put}, {key_at("k", 0)}));
  const uint64_t revision = t.machine().key("k")->revision();
  expect_refused(t.commit({put}, {key_at("k", 0)}), Errc::kConflict,
                 fmt::format("at revision {}", revision));
  expect_refused(t.commit({put}, {key_at("k", 99)}), Errc::kConflict,
                 fmt::format("at revision {}, not 99", revision));
  EXPECT_APPLIED(t.commit({put}, {key_at("k", revision), latest_is("m", 0)}));
  expect_refused(t.commit({put}, {latest_is("m", 1)}), Errc::kConflict, "model 'm'");
  const auto manifest = t.stage_manifest("m", {tensor_of({a}, "w")});
  EXPECT_APPLIED(t.commit({publish("m", manifest)}, {latest_is("m", 0)}));
  expect_refused(t.commit({publish("m", manifest)}, {latest_is("m", 0)}), Errc::kConflict,
                 "is 1, not 0");
  expect_refused(t.commit({put}, {key_at("", 1)}), Errc::kInvalidArgument, "empty");
  expect_refused(t.commit({put}, {pb::Precondition()}), Errc::kInvalidArgument, "precondition");
  expect_refused(t.commit({pb::Operation()}), Errc::kInvalidArgument, "operation");
}

TEST_F(Apply, versions_are_numbered_and_hold_their_blocks) {
  const auto a = t.stage(block_bytes(1, 1000));
  const auto b = t.stage(block_bytes(2, 1000));
  const auto first = t.stage_manifest("m", {tensor_of({a, b}, "w"), tensor_of({a}, "x")});
  EXPECT_EQ(t.commit({publish("m", first)}).operations(0).version(), 1u);
  const auto second = t.stage_manifest("m", {tensor_of({a}, "w")});
  EXPECT_EQ(t.commit({publish("m", second)}).operations(0).version(), 2u);
  t.now += 2 * kHour;
  t.commit({expire(100)});
  EXPECT_EQ(t.machine().applied().blocks, 6u) << "two data blocks, two parts, two manifests";
  EXPECT_EQ(t.commit({delete_version("m", 1)}).operations(0).rows(), 1u);
  EXPECT_FALSE(t.has(b));
  EXPECT_TRUE(t.has(a));
  expect_refused(t.commit({delete_version("m", 1)}), Errc::kNotFound, "m@1");
  EXPECT_APPLIED(t.commit({delete_version("m", 2)}));
  EXPECT_EQ(t.machine().applied().blocks, 0u);
  const auto third = t.stage_manifest("m", {});
  EXPECT_EQ(t.commit({publish("m", third)}).operations(0).version(), 3u) << "never reused";
}

TEST_F(Apply, publish_refusals) {
  const auto a = t.stage(block_bytes(1, 1000));
  const auto missing = reference_of(block_bytes(77, 10));
  const auto no_manifest = t.stage(block_bytes(5, 3000));
  const auto good = t.stage_manifest("m", {tensor_of({a}, "w")});
  expect_refused(t.commit({publish("m@1", good)}), Errc::kInvalidArgument, "'@'");
  expect_refused(t.commit({publish("n", good)}), Errc::kInvalidArgument,
                 "of model 'm', not of 'n'");
  expect_refused(t.commit({publish("m", no_manifest)}), Errc::kInvalidArgument,
                 "is not a Manifest");
  expect_refused(t.commit({publish("m", missing)}), Errc::kMissingBlocks, "1 block");
  const auto holes = t.stage_manifest("m", {tensor_of({a, missing}, "w")});
  const auto result = t.commit({publish("m", holes)});
  expect_refused(result, Errc::kMissingBlocks, "1 block");
  EXPECT_EQ(result.missing(0), missing.digest());
  pb::Manifest lacks_part;
  lacks_part.set_model("m");
  *lacks_part.add_parts() = missing;
  const auto part = t.commit({publish("m", t.stage_message(lacks_part))});
  ASSERT_EQ(part.missing_size(), 1);
  pb::Manifest bad_part;
  bad_part.set_model("m");
  *bad_part.add_parts() = no_manifest;
  expect_refused(t.commit({publish("m", t.stage_message(bad_part))}), Errc::kInvalidArgument,
                 "is not a ManifestPart");
  pb::GetVersion any;
  any.set_model("m");
  EXPECT_FALSE(t.machine().version(any));
}

TEST_F(Apply, aliases_move_by_compare_and_set) {
  for (int i = 0; i < 3; ++i) EXPECT_APPLIED(t.commit({publish("m", t.stage_manifest("m", {}))}));
  expect_refused(t.commit({set_alias("m", "prod", 9)}), Errc::kNotFound, "m@9");
  expect_refused(t.commit({set_alias("m", "7", 1)}), Errc::kInvalidArgument, "read as a version");
  expect_refused(t.commit({set_alias("m", "prod", 1, 2)}), Errc::kConflict, "does not exist");
  EXPECT_EQ(t.commit({set_alias("m", "prod", 1, 0)}).operations(0).version(), 1u);
  expect_refused(t.commit({set_alias("m", "prod", 2, 0)}), Errc::kConflict,
                 "names version 1, not 0");
  EXPECT_APPLIED(t.commit({set_alias("m", "prod", 2, 1)}));
  EXPECT_APPLIED(t.commit({set_alias("m", "prod", 3)}));
  EXPECT_APPLIED(t.commit({set_alias("m", "prod", 3)}));
  expect_refused(t.commit({delete_version("m", 3)}), Errc::kConflict, "m@prod");
  EXPECT_EQ(t.commit({rollback("m", "prod")}).operations(0).version(), 2u);
  pb::GetVersion by_alias;
  by_alias.set_model("m");
  by_alias.set_alias("prod");
  EXPECT_EQ(t.machine().version(by_alias)->version(), 2u);
}

TEST_F(Apply, rollback_skips_deleted_versions) {
  for (int i = 0; i < 3; ++i) EXPECT_APPLIED(t.commit({publish("m", t.stage_manifest("m", {}))}));
  expect_refused(t.commit({rollback("m", "prod")}), Errc::kNotFound, "m@prod");
  EXPECT_APPLIED(t.commit({set_alias("m", "prod", 1)}));
  expect_refused(t.commit({rollback("m", "prod")}), Errc::kConflict, "no other version");
  EXPECT_APPLIED(t.commit({set_alias("m", "prod", 2)}));
  EXPECT_APPLIED(t.commit({set_alias("m", "prod", 3)}));
  EXPECT_APPLIED(t.commit({delete_version("m", 2)}));
  EXPECT_EQ(t.commit({rollback("m", "prod")}).operations(0).version(), 1u);
}

TEST_F(Apply, alias_history_is_bounded) {
  for (int i = 0; i < 2; ++i) EXPECT_APPLIED(t.commit({publish("m", t.stage_manifest("m", {}))}));
  for (uint64_t i = 0; i < 100; ++i) EXPECT_APPLIED(t.commit({set_alias("m", "a", i % 2 + 1)}));
  pb::ListAliases request;
  request.set_model("m");
  const auto reply = t.machine().list_aliases(request);
  ASSERT_EQ(reply->aliases_size(), 1);
  EXPECT_EQ(reply->aliases(0).history_size(), 64);
  EXPECT_EQ(reply->aliases(0).history().rbegin()->version(), 2u);
}

TEST_F(Apply, a_retry_gets_the_first_result) {
  const auto a = t.stage(block_bytes(1, 1000));
  const auto first = t.commit_as(kSession, 1, {put_key("k", tensor_of({a}))});
  EXPECT_APPLIED(first);
  EXPECT_APPLIED(t.commit({delete_key("k")}));
  const auto again = t.commit_as(kSession, 1, {put_key("k", tensor_of({a}))});
  EXPECT_EQ(again.SerializeAsString(), first.SerializeAsString());
  EXPECT_FALSE(t.machine().key("k")) << "it was not applied twice";
  EXPECT_APPLIED(t.commit_as(kSession, 5, {}));
  expect_refused(t.commit_as(kSession, 4, {}), Errc::kConflict, "already passed");
  expect_refused(t.commit_as("short", 1, {}), Errc::kInvalidArgument, "16 bytes");
}

TEST_F(Apply, a_refusal_is_remembered_but_missing_blocks_are_not) {
  const Bytes bytes = block_bytes(1, 1000);
  const auto put = put_key("k", tensor_of({reference_of(bytes)}));
  const auto refused = t.commit_as(kSession, 1, {delete_key("k")});
  expect_refused(refused, Errc::kNotFound, "'k'");
  expect_refused(t.commit_as(kSession, 2, {put}), Errc::kMissingBlocks, "1 block");
  t.stage(bytes);
  EXPECT_APPLIED(t.commit_as(kSession, 2, {put}));
  expect_refused(t.commit_as(kSession, 1, {delete_key("k")}), Errc::kConflict, "already passed");
  EXPECT_TRUE(t.machine().key("k"));
}

TEST_F(Apply, idle_sessions_end) {
  const std::string other(16, 'o');
  EXPECT_APPLIED(t.commit_as(kSession, 1, {}));
  EXPECT_APPLIED(t.commit_as(other, 9, {}));
  t.now += 23 * kHour;
  EXPECT_APPLIED(t.commit_as(kSession, 2, {}));
  EXPECT_FALSE(t.machine().has_expired(t.now));
  t.now += kHour;
  EXPECT_TRUE(t.machine().has_expired(t.now));
  EXPECT_EQ(t.commit({expire(10)}).operations(0).rows(), 1u);
  EXPECT_FALSE(t.machine().has_expired(t.now));
  EXPECT_APPLIED(t.commit_as(other, 3, {}));
  expect_refused(t.commit_as(kSession, 1, {}), Errc::kConflict, "already passed");
}

// A node that lags applies a day's entries at once.
TEST_F(Apply, sessions_leave_the_same_rows_however_entries_are_batched) {
  EXPECT_APPLIED(t.commit_as(kSession, 1, {}));
  t.now += 25 * kHour;
  EXPECT_APPLIED(t.commit({expire(10)}));
  const TemporaryDirectory directory;
  StateTester lagging(directory.path());
  ASSERT_TRUE(lagging.try_apply(t.entries()));
  EXPECT_EQ(lagging.digest(), t.digest());
}

TEST_F(Apply, a_number_of_sessions_that_is_none_is_corrupt) {
  EXPECT_APPLIED(t.commit_as(kSession, 1, {}));
  const std::string key = kind_key(RowKind::kSessions);
  ASSERT_TRUE(t.rows().write(std::vector<RowChange>{{key, "7"}}));
  const auto opened =
      StateMachine::over(std::make_unique<LentRows>(t.rows()), std::make_shared<TestPayloads>());
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Errc::kCorrupt);
}

TEST_F(Apply, a_session_that_expires_itself_stays) {
  EXPECT_APPLIED(t.commit_as(kSession, 1, {}));
  t.now += 25 * kHour;
  EXPECT_EQ(t.commit_as(kSession, 2, {expire(10)}).operations(0).rows(), 1u);
  expect_refused(t.commit_as(kSession, 1, {}), Errc::kConflict, "already passed");
  t.now += 25 * kHour;
  EXPECT_EQ(t.commit({expire(10)}).operations(0).rows(), 1u);
  EXPECT_EQ(t.commit({expire(10)}).operations(0).rows(), 0u);
}

TEST_F(Apply, expire_is_bounded) {
  for (uint64_t i = 0; i < 10; ++i) t.stage(block_bytes(i, 10), i);
  EXPECT_TRUE(t.machine().has_expired(t.now)) << "a lease of 0 ends at once";
  t.now += kHour;
  EXPECT_EQ(t.commit({expire(4)}).operations(0).rows(), 4u);
  EXPECT_TRUE(t.machine().has_expired(t.now));
  EXPECT_EQ(t.commit({expire(0)}).operations(0).rows(), 0u);
  EXPECT_EQ(t.commit({expire(100)}).operations(0).rows(), 6u);
  EXPECT_FALSE(t.machine().has_expired(t.now));
}

TEST_F(Apply, has_expired_sees_leases_that_come_after_it_looked) {
  EXPECT_FALSE(t.machine().has_expired(t.now));
  EXPECT_FALSE(t.machine().has_expired(t.now + 10 * kHour));
  t.stage(block_bytes(1, 10), kMinute);
  EXPECT_FALSE(t.machine().has_expired(t.now));
  EXPECT_TRUE(t.machine().has_expired(t.now + kMinute));
  const auto b = t.stage(block_bytes(2, 10), 2 * kMinute);
  EXPECT_APPLIED(t.commit({put_key("k", tensor_of({b}))}));
  t.now += kMinute;
  EXPECT_EQ(t.commit({expire(10)}).operations(0).rows(), 1u);
  EXPECT_FALSE(t.machine().has_expired(t.now + kHour));
  EXPECT_APPLIED(t.commit({delete_key("k")}));
  EXPECT_TRUE(t.machine().has_expired(t.now + kMinute)) << "b is back under its lease";
}

}  // namespace
}  // namespace ballast::storage
