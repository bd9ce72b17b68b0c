#include "storage/identity.h"

#include <sys/stat.h>

#include <fstream>

#include "proto/base/bytes.h"
#include "proto/base/crc32c.h"
#include "proto/files/files.h"
#include "tests/unit/storage/log_testing.h"

namespace ballast::storage {
namespace {

const Uuid kCluster = *Uuid::parse("11111111-2222-4333-8444-555555555555");
const Uuid kOther = *Uuid::parse("99999999-2222-4333-8444-555555555555");

void expect_error(const Result<DataDirectory>& opened, Errc code, std::string_view part) {
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, code) << opened.error().message;
  EXPECT_NE(opened.error().message.find(part), std::string::npos) << opened.error().message;
}

std::string with_checksum(const std::string& body) {
  return body + fmt::format("crc32c {:08x}\n", crc32c(as_byte_span(body)));
}

// The checksum fits: so it is what somebody wrote, but not what formatting writes.
TEST(Identity, is_what_formatting_writes_to_the_byte) {
  const std::string body =
      "ballast identity 2\n"
      "cluster 11111111-2222-4333-8444-55555555555a\n"
      "node 0f8fad5b-d9cb-469f-a165-70867728950e\n"
      "disk 7c9e6679-7425-40de-944b-e07fc1f90ae7\n"
      "id 2\n"
      "founder 1 n1 127.0.0.1:7400\n";
  const auto identity = parse_identity(with_checksum(body));
  ASSERT_TRUE(identity) << identity.error().to_string();
  EXPECT_EQ(render_identity(*identity), with_checksum(body));
  const std::pair<std::string, std::string> changes[] = {
      {"55555555555a", "55555555555A"}, {"id 2", "id 02"},
      {"founder 1", "founder 01"},      {"cluster 1", "cluster x"},
      {"disk 7c9e6679", "disk 7c9e"},   {"id 2", "id two"}};
  for (const auto& [from, to] : changes) {
    std::string other = body;
    other.replace(other.find(from), from.size(), to);
    const auto parsed = parse_identity(with_checksum(other));
    EXPECT_TRUE(!parsed && parsed.error().code == Errc::kCorrupt) << to;
  }
}

TEST(DataDirectory, formats_once_and_is_the_same_ever_after) {
  const TemporaryDirectory directory;
  const std::string path = directory / "a/b/data";
  Identity first;
  {
    const auto opened = DataDirectory::open(path, kCluster, NodeId(2));
    ASSERT_TRUE(opened) << opened.error().to_string();
    first = opened->identity();
    EXPECT_EQ(first.cluster, kCluster);
    EXPECT_EQ(first.id, NodeId(2));
    EXPECT_FALSE(first.node.empty());
    EXPECT_FALSE(first.disk.empty());
    EXPECT_NE(first.node, first.disk);
    EXPECT_TRUE(std::filesystem::is_directory(opened->log_path()));
    EXPECT_TRUE(std::filesystem::is_directory(opened->state_path()));
  }
  auto again = DataDirectory::open(path, kCluster, NodeId(2));
  ASSERT_TRUE(again);
  EXPECT_EQ(again->identity(), first);
  DataDirectory moved = std::move(*again);
  expect_error(DataDirectory::open(path, kCluster, NodeId(2)), Errc::kRefused, "another process");
  EXPECT_EQ(moved.log_path(), path + "/log");
}

const std::vector<Founder> kFounders = {{NodeId(1), "n1", "127.0.0.1:7400"},
                                        {NodeId(2), "n2", "[::1]:7401"}};

TEST(DataDirectory, a_founder_is_formatted_on_purpose_and_knows_the_others) {
  const TemporaryDirectory directory;
  const std::string path = directory / "data";
  ASSERT_TRUE(DataDirectory::bootstrap(path, kCluster, NodeId(2), kFounders));
  Identity first;
  {
    const auto opened = DataDirectory::open(path, kCluster, NodeId(2));
    ASSERT_TRUE(opened) << opened.error().to_string();
    first = opened->identity();
    EXPECT_EQ(first.founders, kFounders);
  }
  EXPECT_TRUE(DataDirectory::bootstrap(path, kCluster, NodeId(2), kFounders)) << "again";
  EXPECT_EQ(DataDirectory::open(path, kCluster, NodeId(2))->identity(), first) << "left as it was";
  const Status others = DataDirectory::bootstrap(path, kCluster, NodeId(2), {kFounders[1]});
  ASSERT_FALSE(others);
  EXPECT_EQ(others.error().code, Errc::kRefused);
}

TEST(DataDirectory, a_disk_that_joined_never_becomes_a_founder) {
  const TemporaryDirectory directory;
  const std::string path = directory / "data";
  {
    const auto opened = DataDirectory::open(path, kCluster, NodeId(2));
    ASSERT_TRUE(opened);
    EXPECT_TRUE(opened->identity().founders.empty());
  }
  const Status refused = DataDirectory::bootstrap(path, kCluster, NodeId(2), kFounders);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::kRefused);
  EXPECT_NE(refused.error().message.find("without --bootstrap"), std::string::npos);
}

TEST(DataDirectory, a_founder_that_begins_with_a_backup_has_its_identity_last) {
  const TemporaryDirectory directory;
  const std::string path = directory / "data";
  int calls = 0;
  bool breaks_off = true;
  const BeginWith with{
      .origin = sha256(as_byte_span("rows")), .bring = [&](const IncomingPaths& paths) -> Status {
        const std::string& incoming = paths.rows;
        EXPECT_EQ(incoming, path + "/state.incoming");
        EXPECT_FALSE(path_exists(path + "/identity"));
        EXPECT_EQ(path_exists(incoming + "/block"), calls++ > 0) << "what came stays";
        std::ofstream(incoming + "/block") << "x";
        if (breaks_off) return fail(Errc::kIo, "the cable is out");
        return {};
      }};
  const Status broken = DataDirectory::bootstrap(path, kCluster, NodeId(2), kFounders, &with);
  EXPECT_EQ(broken.error().message, "the cable is out");
  expect_error(DataDirectory::open(path, kCluster, NodeId(2)), Errc::kRefused,
               "not wholly restored");
  const Status plain = DataDirectory::bootstrap(path, kCluster, NodeId(2), kFounders);
  ASSERT_FALSE(plain) << "half restored, it must not begin with nothing";
  EXPECT_EQ(plain.error().code, Errc::kRefused);

  // A node that was brought a snapshot, and lost its identity, is something else.
  std::ofstream(path + "/state/rows") << "x";
  expect_error(DataDirectory::open(path, kCluster, NodeId(2)), Errc::kRefused, "holds 'state'");
  EXPECT_FALSE(DataDirectory::bootstrap(path, kCluster, NodeId(2), kFounders, &with));
  EXPECT_EQ(calls, 1);
  std::filesystem::remove(path + "/state/rows");

  breaks_off = false;
  const Status done = DataDirectory::bootstrap(path, kCluster, NodeId(2), kFounders, &with);
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_TRUE(DataDirectory::bootstrap(path, kCluster, NodeId(2), kFounders, &with)) << "again";
  EXPECT_EQ(calls, 2) << "it is there already";
  const auto opened = DataDirectory::open(path, kCluster, NodeId(2));
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(opened->identity().founders, kFounders);
  EXPECT_EQ(origin_of(opened->identity().disk.raw()), with.origin.text().substr(0, 6));
}

TEST(DataDirectory, another_backup_than_the_one_it_began_with_is_refused) {
  const TemporaryDirectory directory;
  const auto with = [](std::string_view text) {
    return BeginWith{.origin = sha256(as_byte_span(text)),
                     .bring = [](const IncomingPaths&) { return Status(); }};
  };
  const BeginWith one = with("one"), other = with("other");
  const auto bootstrap = [&](const std::string& name, const BeginWith* begin) {
    return DataDirectory::bootstrap(directory / name, kCluster, NodeId(2), kFounders, begin);
  };
  ASSERT_TRUE(bootstrap("restored", &one));
  EXPECT_EQ(bootstrap("restored", &other).error().code, Errc::kRefused);
  ASSERT_TRUE(bootstrap("empty", nullptr));
  EXPECT_EQ(bootstrap("empty", &one).error().code, Errc::kRefused);
  const auto empty = DataDirectory::open(directory / "empty", kCluster, NodeId(2));
  EXPECT_EQ(origin_of(empty->identity().disk.raw()), "");
}

TEST(DataDirectory, refuses_another_cluster_or_node) {
  const TemporaryDirectory directory;
  {
    ASSERT_TRUE(DataDirectory::open(directory.path(), kCluster, NodeId(2)));
  }
  expect_error(DataDirectory::open(directory.path(), kOther, NodeId(2)), Errc::kRefused,
               fmt::format("directory '{}' belongs to cluster {}, this node is configured for {}; "
                           "point data_dir to another directory or fix cluster_id",
                           directory.path(), kCluster.to_string(), kOther.to_string()));
  expect_error(DataDirectory::open(directory.path(), kCluster, NodeId(3)), Errc::kRefused,
               "belongs to node 2, this node is configured as node 3");
}

TEST(DataDirectory, leaves_foreign_directories_alone) {
  const TemporaryDirectory directory;
  std::ofstream(directory / "thesis.tex") << "text";
  expect_error(DataDirectory::open(directory.path(), kCluster, NodeId(1)), Errc::kRefused,
               "'thesis.tex' but no identity");
  EXPECT_FALSE(std::filesystem::exists(directory / "LOCK"));
}

TEST(DataDirectory, refuses_a_log_without_an_identity) {
  const TemporaryDirectory directory;
  std::filesystem::create_directories(directory / "log");
  std::ofstream(directory / "log/hard_state") << "x";
  expect_error(DataDirectory::open(directory.path(), kCluster, NodeId(1)), Errc::kRefused,
               "'log' but no identity");
}

TEST(DataDirectory, finishes_formatting_that_was_interrupted) {
  const TemporaryDirectory directory;
  std::filesystem::create_directories(directory / "log");
  std::filesystem::create_directories(directory / "state");
  std::ofstream(directory / "identity.tmp") << "ballast ide";
  std::ofstream(directory / "LOCK") << "";
  EXPECT_TRUE(DataDirectory::open(directory.path(), kCluster, NodeId(1)));
}

TEST(DataDirectory, an_identity_without_its_log_is_refused) {
  const TemporaryDirectory directory;
  {
    ASSERT_TRUE(DataDirectory::open(directory.path(), kCluster, NodeId(1)));
  }
  std::filesystem::remove(directory / "log");
  expect_error(DataDirectory::open(directory.path(), kCluster, NodeId(1)), Errc::kRefused,
               "an identity but no 'log'");
}

TEST(DataDirectory, every_changed_byte_is_noticed) {
  const TemporaryDirectory directory;
  {
    ASSERT_TRUE(DataDirectory::open(directory.path(), kCluster, NodeId(1)));
  }
  const std::string path = directory / "identity";
  const auto size = std::filesystem::file_size(path);
  for (uint64_t at = 0; at < size; ++at) {
    flip_bit(path, at, 0);
    expect_error(DataDirectory::open(directory.path(), kCluster, NodeId(1)), Errc::kCorrupt, path);
    flip_bit(path, at, 0);
  }
  std::filesystem::resize_file(path, size - 1);
  expect_error(DataDirectory::open(directory.path(), kCluster, NodeId(1)), Errc::kCorrupt, path);
}

}  // namespace
}  // namespace ballast::storage
