#include "proto/backup/directory.h"

#include <nlohmann/json.hpp>
#include <set>

#include "proto/backup/verify.h"
#include "tests/unit/backup/backup_testing.h"
#include "tests/unit/client/temporary_folder.h"
#include "tests/unit/storage/golden.h"

namespace ballast::backup {
namespace {

namespace fs = std::filesystem;

const Uuid kCluster = *Uuid::parse("11111111-2222-4333-8444-555555555555");

Manifest manifest_of(const std::string& name, const RowsSummary& rows) {
  return {.name = name,
          .cluster = kCluster,
          .created = "2026-11-27T01:55:00.00" + name + "Z",
          .chain = 0xFEDCBA98,
          .rows = rows};
}

class BackupFiles : public ::testing::Test {
 protected:
  // Returns what was written of the backup before its manifest.
  Manifest write_all_but_manifest(const NewBackup& backup, const std::vector<Bytes>& blocks) {
    auto rows = backup.begin();
    EXPECT_TRUE(rows);
    for (const pb::RowPage& page : pages_of(blocks))
      EXPECT_TRUE(rows->add(as_byte_span(page.SerializeAsString())));
    for (const Bytes& block : blocks) {
      const Status put = backup.put_block(reference_of(block), block.span());
      EXPECT_TRUE(put) << put.error().message;
    }
    return manifest_of(backup.name(), *rows->finish());
  }
  Manifest make(const std::string& name, const std::vector<Bytes>& blocks) {
    const auto backup = NewBackup::open(path_, name);
    EXPECT_TRUE(backup) << backup.error().message;
    const Manifest manifest = write_all_but_manifest(*backup, blocks);
    const Status finished = backup->finish(manifest);
    EXPECT_TRUE(finished) << finished.error().message;
    return manifest;
  }
  std::vector<std::string> names() {
    std::vector<std::string> names;
    const auto all = directory_.list();
    EXPECT_TRUE(all) << all.error().message;
    for (const auto& listed : *all) names.push_back(listed.name);
    return names;
  }
  Verified verified(const std::string& name) {
    std::unordered_set<Digest> whole;
    auto verified = verify(directory_, {name, directory_.find(name)}, whole);
    EXPECT_TRUE(verified) << verified.error().message;
    return *std::move(verified);
  }
  // What is damaged of the only backup: its kind, or the block.
  std::set<std::string> damage(const std::string& name = "1") {
    std::set<std::string> all;
    for (const Damage& one : verified(name).damage)
      all.insert(one.what == "block" ? one.block.hex() : one.what);
    return all;
  }
  fs::path file_of(const Bytes& block) const {
    const std::string hex = sha256(block.span()).hex();
    return fs::path(path_) / "blocks" / hex.substr(0, 2) / hex;
  }
  size_t files_of_blocks() const {
    size_t files = 0;
    for (const auto& entry : fs::recursive_directory_iterator(fs::path(path_) / "blocks"))
      files += entry.is_regular_file();
    return files;
  }

  const TemporaryFolder folder_;
  const std::string path_ = folder_.file("a/backups");
  const BackupDirectory directory_{path_};
  const std::vector<Bytes> blocks_ = {block_of_number(1), block_of_number(2), block_of_number(3)};
};

TEST_F(BackupFiles, a_backup_is_what_was_written) {
  const Manifest made = make("1", blocks_);
  const auto found = directory_.find("1");
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_EQ(*found, made);
  for (const Bytes& block : blocks_) EXPECT_EQ(*directory_.block(reference_of(block)), block);
  const Verified whole = verified("1");
  EXPECT_TRUE(whole.damage.empty());
  EXPECT_EQ(whole.blocks, 3u);
  EXPECT_EQ(whole.bytes, made.rows.block_bytes);
  EXPECT_EQ(whole.pages, 2u);
}

TEST_F(BackupFiles, the_manifest_is_byte_for_byte_what_it_was) {
  make("1", blocks_);
  const std::string text = text_of(directory_.manifest_path("1"));
  EXPECT_EQ(text, storage::golden("backup/manifest_v1.json", text));
}

TEST_F(BackupFiles, without_a_manifest_there_is_no_backup_and_the_next_one_removes_the_rest) {
  {
    const auto backup = NewBackup::open(path_, "1");
    ASSERT_TRUE(backup);
    write_all_but_manifest(*backup, blocks_);
  }
  EXPECT_TRUE(names().empty());
  EXPECT_EQ(directory_.find("").error().code, Errc::kNotFound);
  EXPECT_EQ(directory_.find("1").error().code, Errc::kNotFound);
  EXPECT_TRUE(fs::exists(directory_.rows_path("1")));
  make("2", {blocks_[0]});
  EXPECT_EQ(names(), std::vector<std::string>{"2"});
  EXPECT_FALSE(fs::exists(directory_.rows_path("1")));
  EXPECT_EQ(files_of_blocks(), 3u) << "blocks that have come are of use for the next one";
}

TEST_F(BackupFiles, the_newest_is_the_one_that_was_made_last) {
  make("5", blocks_);
  make("7", blocks_);
  make("6", blocks_);
  EXPECT_EQ(names(), (std::vector<std::string>{"5", "6", "7"}));
  EXPECT_EQ(directory_.find("")->name, "7");
}

TEST_F(BackupFiles, every_changed_byte_of_a_manifest_is_noticed) {
  const Manifest made = make("1", blocks_);
  const std::string path = directory_.manifest_path("1");
  const std::string whole = text_of(path);
  for (size_t at = 0; at < whole.size(); ++at) {
    // Blanks between the fields say nothing.
    if (whole[at] == ' ' || whole[at] == '\n') continue;
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x01);
    const auto parsed = parse_manifest(damaged);
    EXPECT_TRUE(!parsed || *parsed == made) << "byte " << at;
  }
  write_text(path, whole.substr(0, whole.size() / 2));
  EXPECT_EQ(directory_.find("1").error().code, Errc::kCorrupt);
  EXPECT_EQ(directory_.find("").error().code, Errc::kCorrupt) << "it could be the newest";
  EXPECT_EQ(damage(), std::set<std::string>{"manifest"});
  EXPECT_EQ(names(), std::vector<std::string>{"1"});
}

// The checksum fits: so it is what somebody wrote, but nothing that render() writes.
TEST_F(BackupFiles, a_manifest_that_says_what_it_can_not_mean_is_corrupt) {
  make("1", blocks_);
  const std::string text = text_of(directory_.manifest_path("1"));
  using Json = nlohmann::ordered_json;
  const auto parsed_with = [&](const char* name, const Json& value) {
    Json json = Json::parse(text);
    json.erase("crc32c");
    json[name] = value;
    json["crc32c"] = fmt::format("{:08x}", crc32c(as_byte_span(json.dump())));
    return parse_manifest(json.dump());
  };
  EXPECT_TRUE(parsed_with("more", Json::array({"that", "a later version may add"})));
  const std::string cluster = Json::parse(text)["cluster"];
  for (const auto& [name, value] : {std::pair<const char*, Json>{"chain", uint64_t{1} << 32},
                                    {"cluster", "no UUID"},
                                    {"cluster", "AAAAAAAA" + cluster.substr(8)},
                                    {"rows_sha256", "0"}}) {
    const auto parsed = parsed_with(name, value);
    EXPECT_TRUE(!parsed && parsed.error().code == Errc::kCorrupt) << name << " " << value;
  }
}

TEST_F(BackupFiles, a_manifest_of_lists_in_lists_does_not_use_up_the_stack) {
  constexpr size_t kDeep = 1'000'000;
  const std::string text = R"({"format":1,"crc32c":"00000000","more":)" + std::string(kDeep, '[') +
                           std::string(kDeep, ']') + "}";
  EXPECT_EQ(parse_manifest(text).error().code, Errc::kCorrupt);
}

TEST_F(BackupFiles, a_manifest_of_another_format_is_refused) {
  constexpr std::string_view kBody = R"({"format":2,"what":"nobody knows yet"})";
  const std::string crc = fmt::format("{:08x}", crc32c(as_byte_span(kBody)));
  const std::string text =
      fmt::format(R"({},"crc32c":"{}"}})", kBody.substr(0, kBody.size() - 1), crc);
  const auto parsed = parse_manifest(text);
  ASSERT_FALSE(parsed);
  EXPECT_EQ(parsed.error().code, Errc::kRefused) << parsed.error().message;
}

TEST_F(BackupFiles, damaged_and_missing_blocks_are_named) {
  make("1", blocks_);
  write_text(file_of(blocks_[0]), "other bytes");
  fs::remove(file_of(blocks_[2]));
  EXPECT_EQ(damage(), (std::set<std::string>{sha256(blocks_[0].span()).hex(),
                                             sha256(blocks_[2].span()).hex()}));
  EXPECT_EQ(verified("1").blocks, 1u);
  EXPECT_EQ(directory_.block(reference_of(blocks_[0])).error().code, Errc::kCorrupt);
  EXPECT_EQ(directory_.block(reference_of(blocks_[2])).error().code, Errc::kNotFound);
  make("2", blocks_);
  EXPECT_TRUE(verified("1").damage.empty()) << "written anew, they are whole for all backups";
}

TEST_F(BackupFiles, damaged_cut_off_and_missing_rows_are_noticed) {
  make("1", blocks_);
  const std::string path = directory_.rows_path("1");
  const std::string whole = text_of(path);
  std::string damaged = whole;
  damaged[whole.size() / 2] ^= 1;
  write_text(path, damaged);
  EXPECT_EQ(damage(), std::set<std::string>{"rows"});
  write_text(path, whole.substr(0, whole.size() - 7));
  EXPECT_EQ(damage(), std::set<std::string>{"rows"});
  // Whole pages, of another backup.
  make("2", {blocks_[0]});
  fs::copy_file(directory_.rows_path("2"), path, fs::copy_options::overwrite_existing);
  EXPECT_EQ(damage(), std::set<std::string>{"rows"});
  fs::remove(path);
  EXPECT_EQ(damage(), std::set<std::string>{"rows"});
}

TEST_F(BackupFiles, removal_takes_the_blocks_that_no_other_backup_names) {
  make("1", blocks_);
  make("2", {blocks_[1], block_of_number(4)});
  const auto removed = remove_backup(path_, "1");
  ASSERT_TRUE(removed) << removed.error().message;
  EXPECT_EQ(removed->blocks, 2u);
  EXPECT_EQ(removed->bytes, 2 * 5001u);
  EXPECT_EQ(names(), std::vector<std::string>{"2"});
  EXPECT_TRUE(verified("2").damage.empty());
  EXPECT_EQ(files_of_blocks(), 2u);
  EXPECT_EQ(remove_backup(path_, "1").error().code, Errc::kNotFound);
}

TEST_F(BackupFiles, a_removal_that_broke_off_is_gone_on_with) {
  make("1", blocks_);
  make("2", {blocks_[0]});
  fs::remove(directory_.manifest_path("1"));
  const auto removed = remove_backup(path_, "1");
  ASSERT_TRUE(removed) << removed.error().message;
  EXPECT_EQ(files_of_blocks(), 1u);
  EXPECT_FALSE(fs::exists(directory_.rows_path("1")));
}

TEST_F(BackupFiles, nothing_is_removed_while_another_backup_can_not_be_read) {
  make("1", blocks_);
  make("2", {blocks_[1]});
  write_text(directory_.rows_path("2"), "");
  const auto removed = remove_backup(path_, "1");
  ASSERT_FALSE(removed);
  EXPECT_EQ(removed.error().code, Errc::kCorrupt);
  EXPECT_EQ(names().size(), 2u);
  EXPECT_EQ(files_of_blocks(), 3u);
}

TEST_F(BackupFiles, one_at_a_time_and_each_name_once) {
  {
    const auto backup = NewBackup::open(path_, "1");
    ASSERT_TRUE(backup);
    EXPECT_EQ(NewBackup::open(path_, "2").error().code, Errc::kRefused);
    ASSERT_TRUE(backup->finish(write_all_but_manifest(*backup, blocks_)));
    EXPECT_EQ(remove_backup(path_, "1").error().code, Errc::kRefused);
  }
  EXPECT_EQ(NewBackup::open(path_, "1").error().code, Errc::kConflict);
}

TEST_F(BackupFiles, names_can_not_leave_the_directory) {
  for (const std::string name : {"", ".", "..", ".hidden", "a/b", "../a", "a b"}) {
    EXPECT_EQ(NewBackup::open(path_, name).error().code, Errc::kInvalidArgument) << name;
    EXPECT_EQ(remove_backup(path_, name).error().code, Errc::kInvalidArgument) << name;
    if (!name.empty()) EXPECT_EQ(directory_.find(name).error().code, Errc::kInvalidArgument);
  }
}

TEST_F(BackupFiles, a_directory_with_other_things_is_left_alone) {
  fs::create_directories(path_);
  write_text(path_ + "/thesis.tex", "");
  EXPECT_EQ(NewBackup::open(path_, "1").error().code, Errc::kRefused);
  EXPECT_FALSE(fs::exists(path_ + "/blocks"));
  EXPECT_EQ(directory_.list().error().code, Errc::kNotFound);
  EXPECT_EQ(remove_backup(path_, "1").error().code, Errc::kNotFound);
}

TEST_F(BackupFiles, a_write_that_fails_leaves_nothing_behind) {
  const auto backup = NewBackup::open(path_, "1");
  ASSERT_TRUE(backup);
  fs::create_directories(file_of(blocks_[0]));  // can't be replaced by a file
  const Status put = backup->put_block(reference_of(blocks_[0]), blocks_[0].span());
  ASSERT_FALSE(put);
  EXPECT_EQ(put.error().code, Errc::kIo) << put.error().message;
  EXPECT_EQ(files_of_blocks(), 0u);
}

TEST_F(BackupFiles, a_block_that_is_something_else_is_not_taken) {
  const auto backup = NewBackup::open(path_, "1");
  ASSERT_TRUE(backup);
  EXPECT_EQ(backup->put_block(reference_of(blocks_[0]), blocks_[1].span()).error().code,
            Errc::kCorrupt);
  EXPECT_EQ(files_of_blocks(), 0u);
}

}  // namespace
}  // namespace ballast::backup
