#include "storage/kv/state_machine.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "proto/base/check.h"
#include "proto/base/limits.h"
#include "proto/base/planted.h"
#include "storage/kv/row_keys.h"
#include "storage/kv/segment_use.h"
#include "storage/kv/state_impl.h"

namespace ballast::storage {
namespace {

pb::AppliedRow applied_row(const StateMachine::Position& position) {
  pb::AppliedRow row;
  row.set_term(position.term.value());
  row.set_index(position.index.value());
  row.set_time_ms(position.time_ms);
  row.set_format(kRowFormat);
  row.set_blocks(position.blocks);
  row.set_block_bytes(position.block_bytes);
  return row;
}

// True if a row of `kind` has a time of at most `until_ms`. Moves the floor to where the next scan
// may begin: to the first row, or behind all that were passed. Rows that are written meanwhile have
// at least the log's time.
bool has_row_until(const RowStore& store, RowKind kind, uint64_t until_ms, uint64_t log_time_ms,
                   std::atomic<uint64_t>& floor_ms) {
  const uint64_t floor = floor_ms.load();
  if (floor > until_ms) return false;
  const auto rows = store.scan(time_key(kind, floor), prefix_end(time_key(kind, until_ms)));
  const bool found = rows->valid();
  if (!found && !rows->status()) return false;  // apply will meet it and say so
  const uint64_t next = found ? number_behind(rows->key(), 1) : until_ms + 1;
  uint64_t expected = floor;
  floor_ms.compare_exchange_strong(expected, std::max(floor, std::min(next, log_time_ms)));
  return found;
}

// None leave no row: else the rows would tell whether the last one came and went in one batch.
void put_sessions(RowBatch& rows, uint64_t sessions) {
  const std::string key = kind_key(RowKind::kSessions);
  if (sessions == 0) {
    rows.erase(key);
  } else {
    rows.put(key, big_endian(sessions));
  }
}

}  // namespace

StateMachine::StateMachine() : impl_(std::make_unique<Impl>()) {}

StateMachine::~StateMachine() {
  if (impl_->store) (void)flush();  // without it the log replays more
}

Result<std::unique_ptr<StateMachine>> StateMachine::open(StateOptions options,
                                                         std::shared_ptr<const Payloads> payloads) {
  BALLAST_TRY(auto store, open_database(options));
  auto machine = over(std::move(store), std::move(payloads), std::move(options.on_damage));
  if (!machine) return fail_within(std::move(machine).error(), "'{}'", options.directory);
  return machine;
}

Result<std::unique_ptr<StateMachine>> StateMachine::over(std::unique_ptr<RowStore> store,
                                                         std::shared_ptr<const Payloads> payloads,
                                                         OnDamage on_damage) {
  std::unique_ptr<StateMachine> machine(new StateMachine());
  Impl& impl = *machine->impl_;
  impl.on_damage = std::move(on_damage);
  impl.store = std::move(store);
  impl.payloads = std::move(payloads);
  BALLAST_TRY(const auto row, impl.store->row<pb::AppliedRow>(kind_key(RowKind::kApplied)));
  if (!row) return machine;
  BALLAST_TRY_STATUS(check_row_format(row->format()));
  if (row->format() < kRowFormat) BALLAST_TRY_STATUS(take_over_rows(*impl.store, *row));
  impl.position = {Term(row->term()), Index(row->index()), row->time_ms(), row->blocks(),
                   row->block_bytes()};
  BALLAST_TRY(const auto sessions, impl.store->get(kind_key(RowKind::kSessions)));
  if (sessions && sessions->size() != sizeof(uint64_t))
    return fail(Errc::kCorrupt, "the number of sessions has {} bytes", sessions->size());
  impl.totals = {row->blocks(), row->block_bytes(), sessions ? number_behind(*sessions, 0) : 0};
  return machine;
}

StateMachine::Position StateMachine::applied() const { return impl_->applied(); }

Result<std::vector<pb::ApplyResult>> StateMachine::apply(std::span<const Committed> entries) {
  std::vector<pb::ApplyResult> results;
  if (entries.empty()) return results;
  results.reserve(entries.size());
  Position position = impl_->applied();
  RowBatch rows(*impl_->store);
  ApplyContext context{.rows = rows,
                       .payloads = *impl_->payloads,
                       .totals = impl_->totals,
                       .time_ms = position.time_ms,
                       .lease_floor_ms = impl_->lease_floor_ms.load(),
                       .session_floor_ms = impl_->session_floor_ms.load()};
  for (const Committed& entry : entries) {
    BALLAST_CHECK(entry.index == position.index + 1 && entry.term >= position.term,
                  "entry {} of term {} after {} of term {}", entry.index, entry.term,
                  position.index, position.term);
    auto result = apply_entry(context, entry);
    impl_->blocked_on = context.unreadable;
    if (!result) return std::unexpected(std::move(result).error());
    results.push_back(*std::move(result));
    position.term = entry.term;
    position.index = entry.index;
  }
  position.time_ms = context.time_ms;
  position.blocks = context.totals.blocks;
  position.block_bytes = context.totals.block_bytes;
  if (BALLAST_PLANTED(kAppliedBeforeData)) {
    const std::string key = kind_key(RowKind::kApplied);
    const std::string value = applied_row(position).SerializeAsString();
    BALLAST_TRY_STATUS(impl_->store->write(std::vector<RowChange>{{key, value}}));
  }
  rows.put_row(kind_key(RowKind::kApplied), applied_row(position));
  if (context.totals.sessions != impl_->totals.sessions)
    put_sessions(rows, context.totals.sessions);
  rows.settle();
  BALLAST_TRY_STATUS(impl_->store->write(rows.changes()));
  impl_->totals = context.totals;
  impl_->set_applied(position);
  return results;
}

std::optional<Digest> StateMachine::blocked_on() const { return impl_->blocked_on; }

Status StateMachine::flush() {
  return BALLAST_PLANTED(kRowsNotFlushed) ? Status() : impl_->store->flush();
}

uint64_t StateMachine::disk_bytes() const { return impl_->store->disk_bytes(); }

Result<std::optional<pb::ConfigurationRow>> StateMachine::configuration() const {
  return impl_->store->row<pb::ConfigurationRow>(kind_key(RowKind::kConfiguration));
}

std::unique_ptr<RowView> StateMachine::rows() const { return impl_->store->snapshot(); }

bool StateMachine::has_expired(uint64_t now_ms) const {
  const Impl& impl = *impl_;
  const uint64_t log_time_ms = impl.applied().time_ms;
  const uint64_t time_ms = std::max(now_ms, log_time_ms);  // as an Expire at `now_ms` would see it
  if (has_row_until(*impl.store, RowKind::kLease, time_ms, log_time_ms, impl.lease_floor_ms))
    return true;
  const auto idle = static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(limits::kSessionLease).count());
  return time_ms >= idle && has_row_until(*impl.store, RowKind::kSessionTime, time_ms - idle,
                                          log_time_ms, impl.session_floor_ms);
}

}  // namespace ballast::storage
