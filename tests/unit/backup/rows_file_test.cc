#include "proto/backup/rows_file.h"

#include "tests/unit/backup/backup_testing.h"
#include "tests/unit/client/temporary_folder.h"
#include "tests/unit/storage/golden.h"

namespace ballast::backup {
namespace {

class RowsFile : public ::testing::Test {
 protected:
  RowsSummary write(const std::vector<pb::RowPage>& pages) {
    auto writer = RowsWriter::create(path_);
    EXPECT_TRUE(writer) << writer.error().message;
    for (const pb::RowPage& page : pages) {
      const Status added = writer->add(as_byte_span(page.SerializeAsString()));
      EXPECT_TRUE(added) << added.error().message;
    }
    const auto summary = writer->finish();
    EXPECT_TRUE(summary) << summary.error().message;
    return *summary;
  }
  // All pages, or the error that ends them.
  Result<std::vector<pb::RowPage>> read(RowsSummary* summary = nullptr) {
    BALLAST_TRY(RowsReader reader, RowsReader::open(path_));
    std::vector<pb::RowPage> pages;
    while (true) {
      BALLAST_TRY(auto page, reader.next());
      if (!page) break;
      pages.push_back(*std::move(page));
    }
    BALLAST_TRY(const RowsSummary found, reader.finish());
    if (summary != nullptr) *summary = found;
    return pages;
  }

  const std::vector<Bytes> blocks_ = {block_of_number(1), block_of_number(2), block_of_number(3)};
  const TemporaryFolder folder_;
  const std::string path_ = folder_.file("rows");
};

TEST_F(RowsFile, gives_back_what_was_written_and_both_sides_count_the_same) {
  const auto pages = pages_of(blocks_);
  const RowsSummary written = write(pages);
  RowsSummary found;
  const auto read = this->read(&found);
  ASSERT_TRUE(read) << read.error().message;
  ASSERT_EQ(read->size(), pages.size());
  for (size_t i = 0; i < pages.size(); ++i)
    EXPECT_EQ((*read)[i].SerializeAsString(), pages[i].SerializeAsString());
  EXPECT_EQ(found, written);
  EXPECT_EQ(found.pages, 2u);
  EXPECT_EQ(found.rows, 6u);
  EXPECT_EQ(found.blocks, 3u);
  EXPECT_EQ(found.block_bytes, 3 * 5001u);
  EXPECT_EQ(found.index, Index(77));
  EXPECT_EQ(found.term, Term(3));
  EXPECT_EQ(found.bytes, std::filesystem::file_size(path_));
  EXPECT_EQ(found.sha256, sha256(as_byte_span(text_of(path_))));
}

TEST_F(RowsFile, is_byte_for_byte_what_it_was) {
  write(pages_of(blocks_));
  EXPECT_EQ(text_of(path_), storage::golden("backup/rows_v1.bin", text_of(path_)));
}

TEST_F(RowsFile, every_changed_byte_is_noticed) {
  write(pages_of({blocks_[0]}));
  const std::string whole = text_of(path_);
  for (size_t at = 0; at < whole.size(); ++at) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    write_text(path_, damaged);
    const auto read = this->read();
    ASSERT_FALSE(read) << "byte " << at;
    EXPECT_EQ(read.error().code, Errc::kCorrupt) << read.error().message;
  }
}

// Only where a page ends does the file look whole, and then the manifest says that it is not.
TEST_F(RowsFile, a_file_that_is_cut_off_is_noticed) {
  const RowsSummary written = write(pages_of({blocks_[0]}));
  const std::string whole = text_of(path_);
  size_t looks_whole = 0;
  for (size_t bytes = 0; bytes < whole.size(); ++bytes) {
    write_text(path_, std::string_view(whole).substr(0, bytes));
    RowsSummary found;
    const auto read = this->read(&found);
    if (!read) {
      EXPECT_EQ(read.error().code, Errc::kCorrupt) << read.error().message;
      continue;
    }
    ++looks_whole;
    EXPECT_NE(found, written);
  }
  EXPECT_EQ(looks_whole, 1u) << "behind the first page";
}

TEST_F(RowsFile, pages_that_do_not_belong_into_it_are_refused) {
  const auto refused = [&](const pb::RowPage& page, std::string_view why) {
    auto writer = RowsWriter::create(path_);
    ASSERT_TRUE(writer);
    ASSERT_TRUE(writer->add(as_byte_span(pages_of({})[0].SerializeAsString())));
    const Status added = writer->add(as_byte_span(page.SerializeAsString()));
    ASSERT_FALSE(added) << why;
    EXPECT_EQ(added.error().code, Errc::kCorrupt);
    EXPECT_NE(added.error().message.find(why), std::string::npos) << added.error().message;
  };
  refused({}, "no rows");
  refused(pages_of({})[0], "out of order");
  pb::RowPage own;
  add_row(own, "\x81", "of one node alone");
  refused(own, "out of order");
  pb::RowPage block;
  add_row(block, std::string(1, kBlockRow) + "short", "");
  refused(block, "row of a block");
}

TEST_F(RowsFile, rows_that_show_no_entry_are_none) {
  auto writer = RowsWriter::create(path_);
  ASSERT_TRUE(writer);
  ASSERT_TRUE(writer->add(as_byte_span(pages_of(blocks_)[1].SerializeAsString())));
  EXPECT_EQ(writer->finish().error().code, Errc::kCorrupt);
}

}  // namespace
}  // namespace ballast::backup
