// Where a node has the bytes of blocks, and that nobody but the node itself can tell.
#include <filesystem>
#include <fstream>

#include "storage/kv/block_rows.h"
#include "tests/unit/storage/state_testing.h"

namespace ballast::storage {
namespace {

constexpr size_t kLarge = 300'000;  // lies in a blob file

uint64_t count_rows(const RowView& rows, RowKind kind) {
  uint64_t count = 0;
  const auto found = rows.scan(kind_key(kind), prefix_end(kind_key(kind)));
  for (; found->valid(); found->next()) ++count;
  return count;
}

std::vector<std::filesystem::path> blob_files(const std::string& directory) {
  std::vector<std::filesystem::path> files;
  for (const auto& file : std::filesystem::directory_iterator(directory))
    if (file.path().extension() == ".blob") files.push_back(file.path());
  return files;
}

class Homes : public testing::Test {
 protected:
  // Makes the database the home of these blocks.
  void take_in(const std::vector<Bytes>& blocks) {
    for (const Bytes& bytes : blocks) {
      const auto place = t.rows().row<pb::PlaceRow>(place_key(digest_of(reference_of(bytes))));
      ASSERT_TRUE(place && *place);
      const auto moved = t.machine().move_blocks((*place)->segment(), 1);
      ASSERT_TRUE(moved) << moved.error().to_string();
      EXPECT_EQ(*moved, bytes.size());
    }
    ASSERT_TRUE(t.machine().flush());
  }
  Errc code_of(const pb::BlockRef& reference) {
    const auto block = t.machine().block(digest_of(reference));
    EXPECT_FALSE(block);
    return block ? Errc::kInternal : block.error().code;
  }
  std::vector<std::string> damaged() {
    const auto reply = t.machine().verify_blocks(std::nullopt, {std::chrono::hours(1)});
    EXPECT_TRUE(reply) << reply.error().to_string();
    return {reply->damaged().begin(), reply->damaged().end()};
  }

  TemporaryDirectory directory_;
  StateTester t{directory_.path(), std::make_shared<TestPayloads>(1)};  // a segment for each
};

TEST(BytesRows, round_trip) {
  for (const size_t size : {0, 1, 5000, 4 << 20}) {
    const Bytes bytes = block_bytes(7, size);
    const pb::BlockRef reference = reference_of(bytes);
    const Digest digest = digest_of(reference);
    pb::BlockRow block;
    block.set_length(reference.length());
    block.set_crc32c(reference.crc32c());
    const BytesRow row = bytes_row(digest, bytes);
    EXPECT_EQ(row.key, "\x80" + std::string(digest.text()));
    const auto parsed = check_bytes_row(Bytes::copy_of(row.value), digest, block);
    ASSERT_TRUE(parsed) << parsed.error().to_string();
    EXPECT_TRUE(*parsed == bytes);

    std::string other(row.value);
    EXPECT_EQ(check_bytes_row(Bytes::copy_of(other + 'x'), digest, block).error().code,
              Errc::kCorrupt);
    if (size == 0) continue;
    EXPECT_FALSE(check_bytes_row(Bytes::copy_of(std::string_view(other).substr(1)), digest, block));
    other[size / 2] ^= 4;
    const auto damaged = check_bytes_row(Bytes::copy_of(other), digest, block);
    ASSERT_FALSE(damaged);
    EXPECT_EQ(damaged.error().code, Errc::kCorrupt);
    EXPECT_NE(damaged.error().message.find(digest.brief()), std::string::npos);
  }
}

TEST_F(Homes, a_block_is_read_from_the_database) {
  std::vector<Bytes> blocks;
  for (const size_t size : {size_t{0}, size_t{1}, size_t{4096}, kLarge, size_t{4 << 20}})
    blocks.push_back(block_bytes(size + 1, size));
  for (const Bytes& bytes : blocks) t.stage(bytes);
  const std::string digest = t.digest();
  take_in(blocks);
  t.payloads().lose();
  for (const Bytes& bytes : blocks) {
    const auto block = t.machine().block(digest_of(reference_of(bytes)));
    ASSERT_TRUE(block) << block.error().to_string();
    EXPECT_TRUE(block->bytes == bytes);
    EXPECT_TRUE(t.has(reference_of(bytes)));
  }
  EXPECT_EQ(damaged(), std::vector<std::string>());
  EXPECT_EQ(t.digest(), digest) << "only this node is concerned";
}

TEST_F(Homes, a_manifest_is_applied_from_the_database) {
  const auto weight = t.stage(block_bytes(2, 200));
  pb::ManifestPart part;
  *part.add_tensors() = tensor_of({weight}, "w");
  pb::Manifest manifest;
  manifest.set_model("m");
  *manifest.add_parts() = t.stage_message(part);
  manifest.set_tensors(1);
  const auto reference = t.stage_message(manifest);
  take_in({message_bytes(part), message_bytes(manifest)});
  EXPECT_APPLIED(t.commit({publish("m", reference)}));
  EXPECT_EQ(t.machine().applied().blocks, 3u);
  t.now += 2 * kHour;
  EXPECT_APPLIED(t.commit({delete_version("m", 1)}));
  EXPECT_EQ(t.machine().applied().blocks, 0u);
}

TEST_F(Homes, what_goes_leaves_no_row_in_either_home) {
  const Bytes in_log = block_bytes(1, kLarge);
  const Bytes in_database = block_bytes(2, kLarge);
  const Bytes leased = block_bytes(3, kLarge);
  const auto a = t.stage(in_log, 0);
  const auto b = t.stage(in_database, 0);
  t.stage(leased, kMinute);
  EXPECT_APPLIED(t.commit({put_key("k", tensor_of({a, b}))}));
  take_in({in_database, leased});
  EXPECT_EQ(count_rows(t.rows(), RowKind::kBytes), 2u);
  EXPECT_EQ(count_rows(t.rows(), RowKind::kPlace), 1u);
  EXPECT_APPLIED(t.commit({delete_key("k")}));
  t.now += kHour;
  EXPECT_APPLIED(t.commit({expire(10)}));
  EXPECT_EQ(code_of(b), Errc::kNotFound);
  for (const RowKind kind : {RowKind::kBlock, RowKind::kBytes, RowKind::kPlace})
    EXPECT_EQ(count_rows(t.rows(), kind), 0u);
}

TEST_F(Homes, what_is_staged_again_keeps_its_home) {
  const Bytes bytes = block_bytes(1, kLarge);
  t.stage(bytes, kMinute);
  take_in({bytes});
  t.stage(bytes, kHour);
  EXPECT_EQ(count_rows(t.rows(), RowKind::kBytes), 1u);
  EXPECT_EQ(count_rows(t.rows(), RowKind::kPlace), 0u);
}

TEST_F(Homes, damage_in_a_blob_file_is_found) {
  const Bytes bytes = block_bytes(1, kLarge);
  const Bytes small = block_bytes(2, 1000);
  const auto reference = t.stage(bytes);
  const auto healthy = t.stage(small);
  take_in({bytes, small});
  const auto blobs = blob_files(directory_.path());
  ASSERT_EQ(blobs.size(), 1u);
  const auto size = std::filesystem::file_size(blobs[0]);
  {
    std::fstream file(blobs[0], std::ios::binary | std::ios::in | std::ios::out);
    file.seekg(static_cast<std::streamoff>(size / 2));
    const auto byte = static_cast<char>(file.get() ^ 0x20);
    file.seekp(static_cast<std::streamoff>(size / 2));
    file.put(byte);
  }
  EXPECT_EQ(code_of(reference), Errc::kCorrupt);
  EXPECT_EQ(damaged(), std::vector{reference.digest()});
  t.reopen();
  std::filesystem::resize_file(blobs[0], size / 2);
  const auto cut = t.machine().block(digest_of(reference));
  ASSERT_FALSE(cut);
  EXPECT_NE(cut.error().message.find(digest_of(reference).brief()), std::string::npos);
  EXPECT_EQ(damaged(), std::vector{reference.digest()});
  EXPECT_TRUE(t.machine().block(digest_of(healthy)));
}

TEST_F(Homes, only_blocks_lie_in_blob_files) {
  std::vector<pb::BlockRef> named;
  for (uint64_t i = 0; i < 1000; ++i) named.push_back(t.stage(block_bytes(i, 10)));
  EXPECT_APPLIED(t.commit({put_key("k", tensor_of(named))}));
  ASSERT_GT(t.machine().key("k")->ByteSizeLong(), 40'000u);
  ASSERT_TRUE(t.machine().flush());
  EXPECT_TRUE(blob_files(directory_.path()).empty());
}

}  // namespace
}  // namespace ballast::storage
