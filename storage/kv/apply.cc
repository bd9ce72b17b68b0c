#include "storage/kv/apply.h"

#include <algorithm>
#include <utility>

#include "proto/base/check.h"
#include "proto/base/limits.h"
#include "proto/base/planted.h"
#include "storage/kv/row_keys.h"

namespace ballast::storage {
namespace {

constexpr size_t kSessionBytes = 16;

template <class Header>
Result<Header> parse_header(const Committed& entry) {
  Header header;
  if (!header.ParseFromArray(entry.header.data(), static_cast<int>(entry.header.size())))
    return fail(Errc::kCorrupt, "the header of entry {} is not a {}", entry.index,
                Header::descriptor()->name());
  return header;
}

pb::ApplyResult refusal(const ApplyContext& context, const Error& error) {
  pb::ApplyResult result;
  result.set_code(static_cast<uint32_t>(error.code));
  result.set_message(shortened(error.message));
  result.set_index(context.index);
  if (error.code == Errc::kMissingBlocks)
    for (const Digest& digest : context.missing) result.add_missing(std::string(digest.text()));
  return result;
}

Result<pb::ApplyResult> apply_operations(ApplyContext& context, const pb::CommitEntry& commit) {
  for (const pb::Precondition& precondition : commit.preconditions())
    BALLAST_TRY_STATUS(check_precondition(context, precondition));
  pb::ApplyResult result;
  result.set_index(context.index);
  for (const pb::Operation& operation : commit.operations()) {
    BALLAST_TRY(*result.add_operations(), apply_operation(context, operation));
  }
  return result;
}

// All of the commit, or nothing but the refusal.
Result<pb::ApplyResult> apply_or_refuse(ApplyContext& context, const pb::CommitEntry& commit) {
  const Totals before = context.totals;
  context.missing.clear();
  context.added_uses = 0;
  auto result = apply_operations(context, commit);
  if (result) {
    context.rows.settle();
    return result;
  }
  if (!is_refusal(result.error().code)) return result;
  context.rows.discard();
  context.totals = before;
  return refusal(context, result.error());
}

void store_session(ApplyContext& context, const pb::CommitEntry& commit,
                   const std::optional<pb::SessionRow>& before, const pb::ApplyResult& result) {
  if (before) {
    context.rows.erase(session_time_key(before->time_ms(), commit.session()));
  } else {
    ++context.totals.sessions;
  }
  pb::SessionRow row;
  row.set_sequence(commit.sequence());
  *row.mutable_result() = result;
  row.set_time_ms(context.time_ms);
  context.rows.put_row(session_key(commit.session()), row);
  context.rows.put(session_time_key(context.time_ms, commit.session()), "");
  context.rows.settle();
}

Result<pb::ApplyResult> apply_commit(ApplyContext& context, const pb::CommitEntry& commit) {
  if (commit.session().empty() || BALLAST_PLANTED(kSessionNotConsulted))
    return apply_or_refuse(context, commit);
  if (commit.session().size() != kSessionBytes)
    return refusal(context, {Errc::kInvalidArgument, "a session id must have 16 bytes"});
  BALLAST_TRY(auto session, context.rows.row<pb::SessionRow>(session_key(commit.session())));
  if (session && commit.sequence() == session->sequence()) return session->result();
  if (session && commit.sequence() < session->sequence())
    return refusal(
        context,
        {Errc::kConflict, fmt::format("sequence {} of the session has already passed; it is at {}",
                                      commit.sequence(), session->sequence())});
  if (!session && context.totals.sessions >= limits::kSessionsMax) {
    // Whoever has been idle for longer than a request may take has no retry under way.
    BALLAST_TRY(const uint64_t ended, expire_sessions(context, limits::kRequestDeadlineMax, 1));
    if (ended > 0) context.rows.settle();
  }
  if (!session && context.totals.sessions >= limits::kSessionsMax)
    return refusal(context, {Errc::kOverloaded,
                             fmt::format("{} sessions are open; idle ones end after {} hours",
                                         limits::kSessionsMax, limits::kSessionLease.count())});
  BALLAST_TRY(pb::ApplyResult result, apply_or_refuse(context, commit));
  // An Expire in this commit may have ended the session itself.
  BALLAST_TRY(session, context.rows.row<pb::SessionRow>(session_key(commit.session())));
  // The client uploads what is missing and commits again under the same sequence.
  if (result.code() != static_cast<uint32_t>(Errc::kMissingBlocks))
    store_session(context, commit, session, result);
  return result;
}

}  // namespace

bool is_refusal(Errc code) {
  switch (code) {
    case Errc::kInvalidArgument:
    case Errc::kNotFound:
    case Errc::kConflict:
    case Errc::kMissingBlocks:
    case Errc::kOverloaded: return true;
    default: return false;
  }
}

Result<pb::ApplyResult> apply_entry(ApplyContext& context, const Committed& entry) {
  context.index = entry.index.value();
  switch (entry.kind) {
    case EntryKind::kNoop: break;
    case EntryKind::kConfiguration: {
      pb::ConfigurationRow row;
      row.set_index(context.index);
      row.set_entry(std::string(entry.header.text()));
      context.rows.put_row(kind_key(RowKind::kConfiguration), row);
      context.rows.settle();
      break;
    }
    case EntryKind::kBlock: {
      BALLAST_TRY(const auto staged, parse_header<pb::BlockEntry>(entry));
      context.time_ms = std::max(context.time_ms, staged.time_ms());
      BALLAST_TRY_STATUS(stage_block(context, entry, staged));
      context.rows.settle();
      break;
    }
    case EntryKind::kCommit: {
      BALLAST_TRY(const auto commit, parse_header<pb::CommitEntry>(entry));
      context.time_ms = std::max(context.time_ms, commit.time_ms());
      return apply_commit(context, commit);
    }
  }
  pb::ApplyResult result;
  result.set_index(context.index);
  return result;
}

}  // namespace ballast::storage
