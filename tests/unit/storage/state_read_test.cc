#include <fcntl.h>
#include <rocksdb/db.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "tests/unit/storage/golden.h"
#include "tests/unit/storage/state_testing.h"

namespace ballast::storage {
namespace {

class Reads : public testing::Test {
 protected:
  TemporaryDirectory directory_;
  StateTester t{directory_.path()};
};

TEST_F(Reads, a_block_comes_back_whole) {
  for (const size_t size : {0, 1, 4096, 20'000, 4 << 20}) {
    const Bytes bytes = block_bytes(size + 1, size);
    const auto reference = t.stage(bytes);
    for (const bool flushed : {false, true}) {
      if (flushed) ASSERT_TRUE(t.machine().flush());
      const auto block = t.machine().block(digest_of(reference));
      ASSERT_TRUE(block) << block.error().to_string();
      EXPECT_TRUE(block->bytes == bytes);
      EXPECT_EQ(block->reference.SerializeAsString(), reference.SerializeAsString());
    }
  }
  const auto none = t.machine().block(digest_of(reference_of(block_bytes(999, 3))));
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code, Errc::kNotFound);
}

TEST_F(Reads, keys_are_listed_in_pages) {
  const auto a = t.stage(block_bytes(1, 100));
  for (int i = 0; i < 25; ++i)
    EXPECT_APPLIED(t.commit({put_key(fmt::format("k/{:02}", i), tensor_of({a}))}));
  EXPECT_APPLIED(t.commit({put_key("l", tensor_of({a}))}));
  pb::ListKeys request;
  request.set_prefix("k/");
  request.set_limit(10);
  std::vector<std::string> seen;
  while (true) {
    const auto page = t.machine().list_keys(request);
    ASSERT_TRUE(page);
    EXPECT_LE(page->keys_size(), 10);
    for (const auto& key : page->keys()) seen.push_back(key.key());
    if (!page->more()) break;
    request.set_after(seen.back());
  }
  EXPECT_EQ(seen.size(), 25u);
  EXPECT_TRUE(std::ranges::is_sorted(seen));
  EXPECT_EQ(t.machine().list_keys({})->keys_size(), 26);
  request.set_after("zzz");
  EXPECT_EQ(t.machine().list_keys(request)->keys_size(), 0);
}

TEST_F(Reads, a_page_is_bounded_by_bytes) {
  const auto a = t.stage(block_bytes(1, 100));
  for (int i = 0; i < 100; ++i)
    EXPECT_APPLIED(
        t.commit({put_key(fmt::format("{:03}{}", i, std::string(1000, 'x')), tensor_of({a}))}));
  const auto page = t.machine().list_keys({});
  EXPECT_TRUE(page->more());
  EXPECT_GT(page->keys_size(), 30);
  EXPECT_LE(page->ByteSizeLong(), limits::kListPageBytesMax);
}

TEST_F(Reads, names_do_not_run_into_each_other) {
  for (const char* model : {"m", "m2", "ma"})
    EXPECT_APPLIED(t.commit({publish(model, t.stage_manifest(model, {}))}));
  EXPECT_APPLIED(t.commit({set_alias("m", "x", 1), set_alias("m2", "y", 1)}));
  pb::ListAliases request;
  request.set_model("m");
  const auto aliases = t.machine().list_aliases(request);
  ASSERT_EQ(aliases->aliases_size(), 1);
  EXPECT_EQ(aliases->aliases(0).alias(), "x");
  EXPECT_EQ(t.machine().list_models({})->models_size(), 3);
  request.set_model("none");
  EXPECT_EQ(t.machine().list_aliases(request).error().code, Errc::kNotFound);
}

TEST_F(Reads, versions_by_number_alias_and_latest) {
  pb::GetVersion request;
  request.set_model("m");
  EXPECT_EQ(t.machine().version(request).error().code, Errc::kNotFound);
  for (int i = 0; i < 3; ++i) EXPECT_APPLIED(t.commit({publish("m", t.stage_manifest("m", {}))}));
  EXPECT_EQ(t.machine().version(request)->version(), 3u);
  EXPECT_APPLIED(t.commit({delete_version("m", 3)}));
  EXPECT_EQ(t.machine().version(request)->version(), 2u);
  EXPECT_EQ(t.machine().list_models({})->models(0).latest_version(), 3u);
  EXPECT_EQ(t.machine().list_models({})->models(0).live_versions(), 2u);
  request.set_version(1);
  EXPECT_EQ(t.machine().version(request)->version(), 1u);
  request.set_version(3);
  EXPECT_NE(t.machine().version(request).error().message.find("m@3"), std::string::npos);
  request.set_version(0);
  request.set_alias("prod");
  EXPECT_NE(t.machine().version(request).error().message.find("m@prod"), std::string::npos);
}

TEST_F(Reads, many_aliases_fit_into_a_page) {
  for (int i = 0; i < 2; ++i) EXPECT_APPLIED(t.commit({publish("m", t.stage_manifest("m", {}))}));
  for (uint64_t i = 0; i < 200; ++i)
    for (uint64_t move = 0; move < 20; ++move)
      t.commit({set_alias("m", fmt::format("alias{}", i), move % 2 + 1)});
  pb::ListAliases request;
  request.set_model("m");
  const auto reply = t.machine().list_aliases(request);
  EXPECT_EQ(reply->aliases_size(), 200);
  EXPECT_LE(reply->ByteSizeLong(), limits::kListPageBytesMax);
  for (const auto& alias : reply->aliases()) EXPECT_EQ(alias.history().rbegin()->version(), 2u);
}

TEST_F(Reads, verify_goes_through_all_blocks_in_steps) {
  for (uint64_t i = 0; i < 20; ++i) t.stage(block_bytes(i, 30'000));
  uint64_t blocks = 0;
  uint64_t bytes = 0;
  int steps = 0;
  std::optional<Digest> after;
  do {
    const auto reply = t.machine().verify_blocks(after, {std::chrono::milliseconds(0)});
    ASSERT_TRUE(reply);
    blocks += reply->blocks();
    bytes += reply->bytes();
    EXPECT_EQ(reply->damaged_size(), 0);
    after = reply->next().empty() ? std::nullopt : std::optional(*Digest::from_raw(reply->next()));
    ++steps;
  } while (after);
  EXPECT_EQ(blocks, 20u);
  EXPECT_EQ(bytes, 600'000u);
  EXPECT_EQ(steps, 20);
}

TEST_F(Reads, damaged_payloads_are_noticed) {
  std::vector<pb::BlockRef> references;
  for (uint64_t i = 0; i < 10; ++i) references.push_back(t.stage(block_bytes(i, 100'000)));
  const auto expect_all_damaged = [&] {
    for (const auto& reference : references) {
      const auto block = t.machine().block(digest_of(reference));
      ASSERT_FALSE(block);
      EXPECT_EQ(block.error().code, Errc::kCorrupt) << block.error().to_string();
    }
    EXPECT_EQ(t.machine().verify_blocks(std::nullopt, {std::chrono::seconds(5)})->damaged_size(),
              10);
  };
  t.payloads().damage();
  expect_all_damaged();
  t.payloads().lose();
  expect_all_damaged();
}

TEST_F(Reads, a_damaged_manifest_stops_the_node_that_has_it) {
  pb::Manifest manifest;
  manifest.set_model("m");
  const auto reference = t.stage_message(manifest);
  t.payloads().damage();
  const Entry entry = commit_entry(t.next(), t.now, {publish("m", reference)});
  const auto applied = t.try_apply({&entry, 1});
  ASSERT_FALSE(applied) << "not a refusal: the other replicas can read theirs";
  EXPECT_EQ(applied.error().code, Errc::kCorrupt);
}

TEST_F(Reads, the_state_digest_leaves_out_where_this_node_has_its_blocks) {
  const auto rows_of = [&](StateTester& one) {
    one.stage(block_bytes(1, 100));
    return one.digest();
  };
  const std::string here = rows_of(t);
  const TemporaryDirectory directory;
  const Entry entry = t.entries().front();
  const auto payloads = std::make_shared<TestPayloads>();
  const auto elsewhere = open_state(directory.path(), payloads);
  ASSERT_TRUE(elsewhere->apply(std::vector{committed(entry, {7, 99})}));
  EXPECT_EQ(elsewhere->state_digest()->digest(), here);
}

TEST_F(Reads, readers_see_the_rows_of_the_index_they_see) {
  const auto a = t.stage(block_bytes(1, 100));
  const uint64_t first = t.next();
  std::atomic<bool> stop = false;
  std::atomic<int> wrong = 0;
  std::thread reader([&] {
    while (!stop) {
      const uint64_t seen = t.machine().applied().index.value();
      const auto row = t.machine().key("k");
      if (seen >= first && (!row || row->revision() < seen)) ++wrong;
    }
  });
  for (int i = 0; i < 500; ++i) t.commit({put_key("k", tensor_of({a}))});
  stop = true;
  reader.join();
  EXPECT_EQ(wrong, 0);
}

TEST_F(Reads, rows_are_frozen) {
  const std::string session(16, 's');
  const auto a = t.stage(block_bytes(1, 100));
  const auto b = t.stage(block_bytes(2, 200));
  t.commit_as(session, 1, {put_key("key", tensor_of({a, a}))});
  t.commit({publish("model", t.stage_manifest("model", {tensor_of({b}, "weight")}))});
  t.commit({set_alias("model", "prod", 1)});
  t.commit_as(session, 2, {delete_key("none")});
  t.close();
  std::string dump;
  rocksdb::DB* raw = nullptr;
  const auto opened = rocksdb::DB::OpenForReadOnly({}, directory_.path(), &raw);
  ASSERT_TRUE(opened.ok()) << opened.ToString();
  const std::unique_ptr<rocksdb::DB> database(raw);
  const std::unique_ptr<rocksdb::Iterator> rows(database->NewIterator({}));
  for (rows->SeekToFirst(); rows->Valid(); rows->Next())
    dump += rows->key().ToString(true) + " " + rows->value().ToString(true) + "\n";
  EXPECT_EQ(golden("rows/rows_v3.txt", dump), dump);
}

}  // namespace
}  // namespace ballast::storage
