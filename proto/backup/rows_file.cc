#include "proto/backup/rows_file.h"

#include <fcntl.h>

#include <array>
#include <memory>
#include <utility>

#include "proto/base/bytes.h"
#include "proto/base/crc32c.h"
#include "proto/files/files.h"

namespace ballast::backup {
namespace {

using PageHead = std::array<std::byte, kPageHeadBytes>;

void put_number(std::span<std::byte> out, uint32_t number) {
  for (size_t i = 0; i < sizeof number; ++i) out[i] = static_cast<std::byte>(number >> 8 * i);
}
uint32_t number_at(std::span<const std::byte> bytes) {
  uint32_t number = 0;
  for (size_t i = 0; i < sizeof number; ++i) number |= std::to_integer<uint32_t>(bytes[i]) << 8 * i;
  return number;
}

// The length is covered too: with a wrong one, other bytes could match by chance alone.
PageHead head_of(std::span<const std::byte> page) {
  PageHead head;
  const std::span out(head);
  put_number(out.first(4), static_cast<uint32_t>(page.size()));
  put_number(out.last(4), crc32c(page, crc32c(out.first(4))));
  return head;
}

Result<pb::RowPage> parse_page(std::span<const std::byte> bytes) {
  pb::RowPage page;
  if (!page.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    return fail(Errc::kCorrupt, "it can't be parsed");
  return page;
}

}  // namespace

Result<std::optional<pb::BlockRef>> block_of(const pb::RowPage::Row& row) {
  if (row.key().empty() || row.key().front() != kBlockRow) return std::nullopt;
  pb::BlockRow value;
  if (row.key().size() != 1 + Digest::kSize || !value.ParseFromString(row.value()) ||
      value.length() > limits::kBlockBytesMax)
    return fail(Errc::kCorrupt, "the row of a block can't be parsed");
  pb::BlockRef reference;
  reference.set_digest(row.key().substr(1));
  reference.set_length(value.length());
  reference.set_crc32c(value.crc32c());
  return reference;
}

// ---- RowsTally ----------------------------------------------------------------------------------

void RowsTally::add_bytes(std::span<const std::byte> bytes) {
  hash_.update(bytes);
  summary_.bytes += bytes.size();
}

Status RowsTally::add_page(const pb::RowPage& page) {
  if (page.rows().empty()) return fail(Errc::kCorrupt, "it has no rows");
  for (const pb::RowPage::Row& row : page.rows()) {
    if (row.key() <= last_key_ || static_cast<unsigned char>(row.key().front()) >= kFirstRowOfNode)
      return fail(Errc::kCorrupt, "a row is out of order");
    last_key_ = row.key();
    if (row.key() == std::string_view(&kAppliedRow, 1)) {
      pb::AppliedRow applied;
      if (!applied.ParseFromString(row.value()))
        return fail(Errc::kCorrupt, "the row of the applied entry can't be parsed");
      summary_.index = Index(applied.index());
      summary_.term = Term(applied.term());
    }
    BALLAST_TRY(const auto block, block_of(row));
    if (!block) continue;
    ++summary_.blocks;
    summary_.block_bytes += block->length();
  }
  ++summary_.pages;
  summary_.rows += static_cast<uint64_t>(page.rows_size());
  return {};
}

Result<RowsSummary> RowsTally::finish() {
  if (summary_.index == Index())
    return fail(Errc::kCorrupt, "the rows do not say which entry they show");
  summary_.sha256 = hash_.finish();
  return summary_;
}

// ---- RowsWriter ---------------------------------------------------------------------------------

Result<RowsWriter> RowsWriter::create(const std::string& path) {
  BALLAST_TRY(UniqueFd file, open_file(path, O_WRONLY | O_CREAT | O_TRUNC));
  RowsWriter writer(std::move(file));
  BALLAST_TRY_STATUS(writer.write(as_byte_span(kRowsTitle)));
  return writer;
}

Status RowsWriter::write(std::span<const std::byte> bytes) {
  tally_.add_bytes(bytes);
  return write_fully(file_, bytes, std::exchange(end_, end_ + bytes.size()));
}

Status RowsWriter::add(std::span<const std::byte> page) {
  if (page.size() > kPageBytesMax)
    return fail(Errc::kCorrupt, "a page of rows has {} bytes; the limit is {}", page.size(),
                kPageBytesMax);
  auto parsed = parse_page(page);
  if (!parsed) return fail_within(std::move(parsed).error(), "a page of rows");
  if (auto added = tally_.add_page(*parsed); !added)
    return fail_within(std::move(added).error(), "a page of rows");
  BALLAST_TRY_STATUS(write(head_of(page)));
  return write(page);
}

Result<RowsSummary> RowsWriter::finish() {
  BALLAST_TRY_STATUS(sync_file(file_));
  return tally_.finish();
}

// ---- RowsReader ---------------------------------------------------------------------------------

Result<RowsReader> RowsReader::open(const std::string& path) {
  BALLAST_TRY(UniqueFd opened, open_existing(path));
  BALLAST_TRY(const uint64_t size, file_bytes(opened));
  const auto file = std::make_shared<UniqueFd>(std::move(opened));
  return RowsReader(
      [file, size, at = uint64_t{0}](std::span<std::byte> out) mutable -> Result<size_t> {
        const size_t part = std::min<uint64_t>(out.size(), size - at);
        BALLAST_TRY_STATUS(read_fully(*file, out.first(part), at));
        at += part;
        return part;
      });
}

Result<std::optional<pb::RowPage>> RowsReader::next() {
  auto page = read_page();
  if (!page) return fail_within(std::move(page).error(), "page {} of the rows", pages_ + 1);
  if (*page) ++pages_;
  return page;
}

Result<std::optional<pb::RowPage>> RowsReader::read_page() {
  PageHead head;
  if (!std::exchange(begun_, true)) {
    BALLAST_TRY(const size_t came, read_(head));
    if (as_text(std::span(head).first(came)) != kRowsTitle)
      return fail(Errc::kCorrupt, "the file does not begin with '{}'", kRowsTitle);
    tally_.add_bytes(head);
  }
  BALLAST_TRY(const size_t came, read_(head));
  if (came == 0) return std::nullopt;
  const size_t bytes = number_at(head);
  if (came < head.size() || bytes > kPageBytesMax)
    return fail(Errc::kCorrupt, "it is cut off, or its length is damaged");
  page_.resize(bytes);
  BALLAST_TRY(const size_t rest, read_(page_));
  if (rest < bytes) return fail(Errc::kCorrupt, "it is cut off, or its length is damaged");
  if (head != head_of(page_)) return fail(Errc::kCorrupt, "it does not match its CRC32C");
  tally_.add_bytes(head);
  tally_.add_bytes(page_);
  BALLAST_TRY(pb::RowPage page, parse_page(page_));
  BALLAST_TRY_STATUS(tally_.add_page(page));
  return page;
}

}  // namespace ballast::backup
