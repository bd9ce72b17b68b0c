// What this node does when it can't read what it has stored: others have it too.

#include <spdlog/spdlog.h>

#include "proto/net/worker.h"
#include "server/node/node.h"

namespace ballast::server {
namespace {

constexpr auto kRetryPeriod = std::chrono::seconds(1);

Result<Digest> digest_of(const storage::Committed& head) {
  pb::BlockEntry entry;
  if (head.kind != EntryKind::kBlock ||
      !entry.ParseFromArray(head.header.data(), static_cast<int>(head.header.size())))
    return fail(Errc::kCorrupt, "entry {} is no block", head.index);
  return Digest::from_raw(entry.block().digest());
}

}  // namespace

// ---- payloads in the log ------------------------------------------------------------------------

// The block may lie elsewhere here as well, if it was uploaded twice.
asio::awaitable<Status> Node::mend_payload(storage::Committed head) {
  const auto payloads = log_->payloads();
  const auto whole = co_await net::on_worker(workers_.urgent, [&] {
    return payloads->read(head.place, head.payload_bytes, head.payload_crc,
                          storage::ReadFrom::kDisk);
  });
  if (whole) co_return Status{};
  BALLAST_CO_TRY(const Digest digest, digest_of(head));
  const auto own = co_await net::on_worker(workers_.urgent, [&] { return state_->block(digest); });
  Result<Bytes> bytes = own ? Result<Bytes>(own->bytes) : std::unexpected(own.error());
  if (!bytes && fetch_block_) bytes = co_await fetch_block_(digest);
  if (!bytes) co_return std::unexpected(bytes.error());
  co_return co_await net::on_worker(workers_.urgent,
                                    [&] { return payloads->restore(head.place, *bytes); });
}

// True if the entries can be read now.
asio::awaitable<bool> Node::mend_log(std::shared_ptr<storage::LogRead> read) {
  const auto heads = co_await net::on_worker(workers_.urgent, [read] { return read->heads(); });
  if (!heads) co_return false;
  for (const storage::Committed& head : *heads) {
    if (head.payload_bytes == 0) continue;
    const Status mended = co_await mend_payload(head);
    if (!mended) {
      spdlog::error("the payload of entry {} can't be repaired: {}", head.index,
                    mended.error().message);
      co_return false;
    }
  }
  co_return true;
}

// ---- blocks -------------------------------------------------------------------------------------

asio::awaitable<Status> Node::restore_block(Digest digest, Bytes bytes) {
  if (stopping_) co_return fail(Errc::kUnavailable, "the node is shutting down");
  const auto done = std::make_shared<net::Promise<Status>>(strand_);
  restores_.push_back({digest, std::move(bytes), done});
  commit_signal_.notify();
  co_return *co_await done->get(Clock::time_point::max());
}

asio::awaitable<void> Node::restore_next() {
  const Restore restore = std::move(restores_.front());
  restores_.pop_front();
  const Status restored = co_await net::on_worker(
      workers_.urgent, [&] { return state_->restore_block(restore.digest, restore.bytes); });
  if (restored) {
    unflushed_bytes_ += restore.bytes.size();
    unreadable_homes_.clear();  // it may have been what one of them waited for
  }
  restore.done->set(restored);
}

// ---- entries that can't be applied --------------------------------------------------------------

// True if what could not be applied, up to the entry `last`, is to be tried again.
asio::awaitable<bool> Node::get_over(const Error& error, Index last) {
  const auto digest = state_->blocked_on();
  // The block may be one of those that the same batch brought: its row is to be there first.
  if (digest && last > applied_ + 1) {
    singly_until_ = last;
    co_return true;
  }
  const bool alone = !fetch_block_ || membership_.newest().members_size() < 2;
  if (alone || (!digest && error.code != Errc::kCorrupt)) {
    fail_stop("applying entries", error);
    co_return false;
  }
  if (!std::exchange(blocked_, true))
    spdlog::error("entry {} can't be applied: {}; other members are asked for what is damaged",
                  applied_ + 1, error.message);
  // Once is enough: what is damaged again at once is not the block alone.
  if (digest && mended_ != digest && co_await bring(*digest)) {
    mended_ = digest;
    co_return true;
  }
  // The rows of a member that has applied it show what came of it. Ours stay until those are here.
  if (!stopping_) co_await wait_for_rows(applied_ + 1);
  co_return !stopping_;
}

// By the loop that applies: restore_block() would wait for that.
asio::awaitable<bool> Node::bring(Digest digest) {
  const auto bytes = co_await fetch_block_(digest);
  if (!bytes || stopping_) co_return false;
  const Status restored = co_await net::on_worker(
      workers_.urgent, [&] { return state_->restore_block(digest, *bytes); });
  co_return restored.has_value();
}

// A snapshot that shows this entry: installing it ends this node.
asio::awaitable<void> Node::wait_for_rows(Index index) {
  if (on_snapshot_needed_) on_snapshot_needed_(index);
  const auto until = Clock::now() + kRetryPeriod;
  while (!stopping_ && restores_.empty() && co_await commit_signal_.wait_until(until)) continue;
}

}  // namespace ballast::server
