#include "server/snapshot/restore.h"

#include <spdlog/spdlog.h>

#include <future>
#include <utility>
#include <vector>

#include "proto/base/clock.h"
#include "storage/kv/row_keys.h"

namespace ballast::server {
namespace {

using storage::IncomingSnapshot;
using storage::RowKind;

static_assert(backup::kAppliedRow == std::to_underlying(RowKind::kApplied));
static_assert(backup::kBlockRow == std::to_underlying(RowKind::kBlock));
static_assert(backup::kMembersRow == std::to_underlying(RowKind::kConfiguration));
static_assert(backup::kFirstRowOfNode == std::to_underlying(storage::kFirstOfThisNode));

constexpr size_t kBlocksOfBatch = 64;  // what a crash loses at most
constexpr size_t kReadAhead = 4;       // blocks

// The founders of the new cluster take the place of the members.
void drop_members(pb::RowPage& page) {
  auto& rows = *page.mutable_rows();
  for (int i = 0; i < rows.size(); ++i) {
    if (rows.Get(i).key() != std::string_view(&backup::kMembersRow, 1)) continue;
    rows.DeleteSubrange(i, 1);
    return;
  }
}

Status bring_rows(IncomingSnapshot& incoming, const backup::BackupDirectory& directory,
                  const backup::Manifest& manifest) {
  BALLAST_TRY_STATUS(incoming.begin());
  BALLAST_TRY(backup::RowsReader reader, directory.rows(manifest.name));
  while (true) {
    BALLAST_TRY(auto page, reader.next());
    if (!page) break;
    drop_members(*page);
    BALLAST_TRY_STATUS(incoming.add(*page));
  }
  BALLAST_TRY(const backup::RowsSummary found, reader.finish());
  if (found == manifest.rows) return {};
  return fail(Errc::kCorrupt, "the rows are not those that the manifest names");
}

// Reading and hashing the next ones goes on while one is written.
Status bring_batch(IncomingSnapshot& incoming, const backup::BackupDirectory& directory,
                   const std::vector<pb::BlockRef>& blocks) {
  std::vector<std::future<Result<Bytes>>> reads(blocks.size());
  size_t begun = 0;
  for (size_t i = 0; i < blocks.size(); ++i) {
    for (; begun < std::min(blocks.size(), i + kReadAhead); ++begun)
      reads[begun] =
          std::async(std::launch::async, [&, begun] { return directory.block(blocks[begun]); });
    BALLAST_TRY(const Bytes bytes, reads[i].get());
    BALLAST_TRY_STATUS(incoming.add_block(blocks[i], bytes));
  }
  return incoming.flush();
}

Status bring_blocks(IncomingSnapshot& incoming, const backup::BackupDirectory& directory) {
  std::optional<Digest> after;
  while (true) {
    BALLAST_TRY(const auto missing, incoming.missing(nullptr, after, kBlocksOfBatch));
    BALLAST_TRY_STATUS(bring_batch(incoming, directory, missing.blocks));
    if (!missing.next) return {};
    after = missing.next;
  }
}

Status bring(IncomingSnapshot& incoming, const backup::BackupDirectory& directory,
             const backup::Manifest& manifest) {
  BALLAST_TRY_STATUS(bring_rows(incoming, directory, manifest));
  BALLAST_TRY_STATUS(incoming.drop_unnamed());
  BALLAST_TRY_STATUS(bring_blocks(incoming, directory));
  return incoming.finish({manifest.rows.index, manifest.rows.term, manifest.chain});
}

}  // namespace

Status restore(const backup::BackupDirectory& directory, const backup::Manifest& manifest,
               const storage::IncomingOptions& incoming) {
  const auto began = Clock::now();
  spdlog::info("restoring backup '{}' of entry {}: {} blocks, {} MiB", manifest.name,
               manifest.rows.index, manifest.rows.blocks, manifest.rows.block_bytes >> 20);
  BALLAST_TRY(const auto snapshot, IncomingSnapshot::open(incoming));
  if (auto brought = bring(*snapshot, directory, manifest); !brought)
    return fail_within(std::move(brought).error(), "backup '{}' in '{}'", manifest.name,
                       directory.path());
  spdlog::info("backup '{}' is restored after {} ms", manifest.name,
               (Clock::now() - began) / std::chrono::milliseconds(1));
  return {};
}

}  // namespace ballast::server
