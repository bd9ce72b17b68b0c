#include <algorithm>
#include <chrono>
#include <utility>

#include "proto/base/limits.h"
#include "proto/base/names.h"
#include "storage/kv/apply.h"
#include "storage/kv/row_keys.h"

namespace ballast::storage {
namespace {

using OperationDone = Result<pb::OperationResult>;

pb::OperationResult rows_done(uint64_t rows) {
  pb::OperationResult result;
  result.set_rows(rows);
  return result;
}
pb::OperationResult version_done(uint64_t version) {
  pb::OperationResult result;
  result.set_version(version);
  return result;
}

// For what was accepted once and is taken back now: a refusal here means that rows are damaged.
Status must(Status status) {
  if (status || !is_refusal(status.error().code)) return status;
  return fail(Errc::kCorrupt, "rows contradict each other: {}", status.error().message);
}

// What every reader relies on, whatever codecs and dtypes it knows.
Status check_layer(const pb::Tensor& tensor) {
  if (static_cast<size_t>(tensor.shape_size()) > limits::kTensorRankMax)
    return fail(Errc::kInvalidArgument, "the tensor has rank {}; the limit is {}",
                tensor.shape_size(), limits::kTensorRankMax);
  uint64_t values = 1;
  for (const uint64_t extent : tensor.shape()) {
    if (__builtin_mul_overflow(values, extent, &values) || values > limits::kTensorValuesMax)
      return fail(Errc::kInvalidArgument, "the tensor has more than {} values",
                  limits::kTensorValuesMax);
  }
  if (tensor.dtype() == 0 || tensor.codec().id() == 0)
    return fail(Errc::kInvalidArgument, "the tensor has no dtype or no codec");
  if (tensor.has_block_list()) return {};
  // A tensor without values has one empty block or none.
  const uint64_t per_block = tensor.values_per_block();
  const uint64_t blocks = per_block == 0 ? 0 : values / per_block + (values % per_block != 0);
  const auto given = static_cast<uint64_t>(tensor.blocks_size());
  if (per_block == 0 || (given != blocks && !(values == 0 && given == 1)))
    return fail(Errc::kInvalidArgument, "{} values in blocks of {} are not {} blocks", values,
                per_block, tensor.blocks_size());
  return {};
}

// The same for the tensors that it is a difference to. How many these may be, gather_tensor() says;
// a message of more than 100 can't be parsed.
Status check_tensor(const pb::Tensor& tensor) {
  for (const pb::Tensor* layer = &tensor;; layer = &layer->base()) {
    BALLAST_TRY_STATUS(check_layer(*layer));
    if (!layer->has_base()) return {};
  }
}

OperationDone put_key(ApplyContext& context, const pb::PutKey& put) {
  BALLAST_TRY_STATUS(check_key(put.key()));
  BALLAST_TRY_STATUS(check_tensor(put.tensor()));
  BlockUses uses;
  BALLAST_TRY_STATUS(gather_tensor(context, put.tensor(), +1, uses));
  BALLAST_TRY(const auto before, context.rows.row<pb::KeyRow>(key_key(put.key())));
  if (before) BALLAST_TRY_STATUS(must(gather_tensor(context, before->tensor(), -1, uses)));
  BALLAST_TRY_STATUS(apply_uses(context, std::move(uses)));
  pb::KeyRow row;
  *row.mutable_tensor() = put.tensor();
  row.set_revision(context.index);
  context.rows.put_row(key_key(put.key()), row);
  return rows_done(0);
}

OperationDone delete_key(ApplyContext& context, const pb::DeleteKey& request) {
  BALLAST_TRY_STATUS(check_key(request.key()));
  BALLAST_TRY(const auto row, context.rows.row<pb::KeyRow>(key_key(request.key())));
  if (!row) return fail(Errc::kNotFound, "key '{}' does not exist", request.key());
  BlockUses uses;
  BALLAST_TRY_STATUS(must(gather_tensor(context, row->tensor(), -1, uses)));
  BALLAST_TRY_STATUS(must(apply_uses(context, std::move(uses))));
  context.rows.erase(key_key(request.key()));
  return rows_done(1);
}

OperationDone delete_prefix(ApplyContext& context, const pb::DeletePrefix& request) {
  const std::string lower = key_key(request.prefix());
  std::vector<std::string> keys;
  BlockUses uses;
  Status gathered;
  BALLAST_TRY_STATUS(context.rows.scan(
      lower, prefix_end(lower), [&](std::string_view key, std::string_view value) {
        const auto row = parse_row<pb::KeyRow>(value);
        gathered = row ? must(gather_tensor(context, row->tensor(), -1, uses))
                       : Status(std::unexpected(row.error()));
        keys.emplace_back(key);
        return gathered && keys.size() < kRowsPerOperationMax && uses.size() < kUsesPerOperationMax;
      }));
  BALLAST_TRY_STATUS(std::move(gathered));
  BALLAST_TRY_STATUS(must(apply_uses(context, std::move(uses))));
  for (std::string& key : keys) context.rows.erase(std::move(key));
  return rows_done(keys.size());
}

OperationDone publish_version(ApplyContext& context, const pb::PublishVersion& request) {
  BALLAST_TRY_STATUS(check_model(request.model()));
  BlockUses uses;
  BALLAST_TRY_STATUS(gather_version(context, request.manifest(), request.model(), +1, uses));
  BALLAST_TRY_STATUS(apply_uses(context, std::move(uses)));
  BALLAST_TRY(const auto found, context.rows.row<pb::ModelRow>(model_key(request.model())));
  pb::ModelRow model = found.value_or(pb::ModelRow());
  model.set_latest_version(model.latest_version() + 1);
  model.set_live_versions(model.live_versions() + 1);
  context.rows.put_row(model_key(request.model()), model);
  pb::VersionRow row;
  *row.mutable_manifest() = request.manifest();
  row.set_revision(context.index);
  row.set_time_ms(context.time_ms);
  context.rows.put_row(version_key(request.model(), model.latest_version()), row);
  return version_done(model.latest_version());
}

// The alias that names the version now, or an empty string.
Result<std::string> alias_of(const ApplyContext& context, const std::string& model,
                             uint64_t version) {
  const std::string prefix = alias_prefix(model);
  std::string alias;
  Status parsed;
  BALLAST_TRY_STATUS(context.rows.scan(prefix, prefix_end(prefix),
                                       [&](std::string_view key, std::string_view value) {
                                         const auto row = parse_row<pb::AliasRow>(value);
                                         if (!row) parsed = std::unexpected(row.error());
                                         if (!row) return false;
                                         if (row->history().rbegin()->version() == version)
                                           alias = key.substr(prefix.size());
                                         return alias.empty();
                                       }));
  BALLAST_TRY_STATUS(std::move(parsed));
  return alias;
}

OperationDone delete_version(ApplyContext& context, const pb::DeleteVersion& request) {
  const std::string& model = request.model();
  BALLAST_TRY_STATUS(check_model(model));
  const std::string key = version_key(model, request.version());
  BALLAST_TRY(const auto row, context.rows.row<pb::VersionRow>(key));
  if (!row) return fail(Errc::kNotFound, "version {}@{} does not exist", model, request.version());
  BALLAST_TRY(const std::string alias, alias_of(context, model, request.version()));
  if (!alias.empty())
    return fail(Errc::kConflict, "alias {}@{} names version {}; move the alias first", model, alias,
                request.version());
  BlockUses uses;
  BALLAST_TRY_STATUS(must(gather_version(context, row->manifest(), model, -1, uses)));
  BALLAST_TRY_STATUS(must(apply_uses(context, std::move(uses))));
  context.rows.erase(key);
  BALLAST_TRY(auto counted, context.rows.row<pb::ModelRow>(model_key(model)));
  if (!counted || counted->live_versions() == 0)
    return fail(Errc::kCorrupt, "rows contradict each other: model '{}' has no versions", model);
  counted->set_live_versions(counted->live_versions() - 1);
  context.rows.put_row(model_key(model), *counted);
  return rows_done(1);
}

void move_alias(ApplyContext& context, const std::string& key, pb::AliasRow row, uint64_t version) {
  pb::AliasChange& change = *row.add_history();
  change.set_version(version);
  change.set_revision(context.index);
  change.set_time_ms(context.time_ms);
  const int surplus = row.history_size() - static_cast<int>(limits::kAliasHistoryMax);
  if (surplus > 0) row.mutable_history()->DeleteSubrange(0, surplus);
  context.rows.put_row(key, row);
}

OperationDone set_alias(ApplyContext& context, const pb::SetAlias& request) {
  const std::string& model = request.model();
  BALLAST_TRY_STATUS(check_model(model));
  BALLAST_TRY_STATUS(check_alias(request.alias()));
  const std::string key = alias_key(model, request.alias());
  BALLAST_TRY(const auto found, context.rows.row<pb::AliasRow>(key));
  const uint64_t present = found ? found->history().rbegin()->version() : 0;
  if (request.has_expect() && request.expect() != present) {
    if (present == 0)
      return fail(Errc::kConflict, "alias {}@{} does not exist; version {} was expected", model,
                  request.alias(), request.expect());
    return fail(Errc::kConflict, "alias {}@{} names version {}, not {}", model, request.alias(),
                present, request.expect());
  }
  BALLAST_TRY(const auto version, context.rows.get(version_key(model, request.version())));
  if (!version)
    return fail(Errc::kNotFound, "version {}@{} does not exist", model, request.version());
  // A repetition is not history: a rollback would go nowhere.
  if (present != request.version())
    move_alias(context, key, found.value_or(pb::AliasRow()), request.version());
  return version_done(request.version());
}

OperationDone rollback_alias(ApplyContext& context, const pb::RollbackAlias& request) {
  const std::string& model = request.model();
  BALLAST_TRY_STATUS(check_model(model));
  BALLAST_TRY_STATUS(check_alias(request.alias()));
  const std::string key = alias_key(model, request.alias());
  BALLAST_TRY(const auto found, context.rows.row<pb::AliasRow>(key));
  if (!found) return fail(Errc::kNotFound, "alias {}@{} does not exist", model, request.alias());
  const uint64_t present = found->history().rbegin()->version();
  for (auto change = found->history().rbegin(); change != found->history().rend(); ++change) {
    if (change->version() == present) continue;
    BALLAST_TRY(const auto version, context.rows.get(version_key(model, change->version())));
    if (!version) continue;
    const uint64_t target = change->version();
    move_alias(context, key, *found, target);
    return version_done(target);
  }
  return fail(Errc::kConflict, "alias {}@{} named no other version before {} that still exists",
              model, request.alias(), present);
}

// Rows of `kind` with a time up to `until_ms`: what stands behind the time in their keys.
Result<std::vector<std::pair<uint64_t, std::string>>> expired_rows(const ApplyContext& context,
                                                                   RowKind kind, uint64_t floor_ms,
                                                                   uint64_t until_ms,
                                                                   uint64_t rows_max) {
  std::vector<std::pair<uint64_t, std::string>> rows;
  if (rows_max == 0 || floor_ms > until_ms) return rows;
  const std::string upper = prefix_end(time_key(kind, until_ms));
  BALLAST_TRY_STATUS(context.rows.scan(
      time_key(kind, floor_ms), upper, [&](std::string_view key, std::string_view) {
        rows.emplace_back(number_behind(key, 1), key.substr(1 + 8));
        return rows.size() < rows_max;
      }));
  return rows;
}

OperationDone expire(ApplyContext& context, const pb::Expire& request) {
  const uint64_t rows_max = std::min<uint64_t>(request.rows_max(), kRowsPerOperationMax);
  BALLAST_TRY(const auto leases, expired_rows(context, RowKind::kLease, context.lease_floor_ms,
                                              context.time_ms, rows_max));
  for (const auto& [until_ms, raw] : leases) {
    BALLAST_TRY(const Digest digest, Digest::from_raw(raw));
    BALLAST_TRY(const auto row, context.rows.row<pb::BlockRow>(block_key(digest)));
    if (!row || row->references() != 0 || row->lease_until_ms() != until_ms)
      return fail(Errc::kCorrupt, "rows contradict each other: the lease of block {}",
                  digest.brief());
    BALLAST_TRY_STATUS(reclaim_block(context, digest, *row));
  }
  BALLAST_TRY(const uint64_t sessions,
              expire_sessions(context, limits::kSessionLease, rows_max - leases.size()));
  return rows_done(leases.size() + sessions);
}

}  // namespace

Result<uint64_t> expire_sessions(ApplyContext& context, std::chrono::milliseconds idle,
                                 uint64_t rows_max) {
  const auto idle_ms = static_cast<uint64_t>(idle.count());
  if (context.time_ms < idle_ms) return 0;
  BALLAST_TRY(const auto sessions,
              expired_rows(context, RowKind::kSessionTime, context.session_floor_ms,
                           context.time_ms - idle_ms, rows_max));
  for (const auto& [time_ms, id] : sessions) {
    context.rows.erase(session_key(id));
    context.rows.erase(session_time_key(time_ms, id));
    --context.totals.sessions;
  }
  return sessions.size();
}

Status check_precondition(const ApplyContext& context, const pb::Precondition& precondition) {
  if (precondition.has_key_revision()) {
    const auto& wanted = precondition.key_revision();
    BALLAST_TRY_STATUS(check_key(wanted.key()));
    BALLAST_TRY(const auto row, context.rows.row<pb::KeyRow>(key_key(wanted.key())));
    const uint64_t present = row ? row->revision() : 0;
    if (present == wanted.revision()) return {};
    if (present == 0)
      return fail(Errc::kConflict, "key '{}' does not exist; revision {} was expected",
                  wanted.key(), wanted.revision());
    if (wanted.revision() == 0)
      return fail(Errc::kConflict, "key '{}' exists, at revision {}", wanted.key(), present);
    return fail(Errc::kConflict, "key '{}' is at revision {}, not {}", wanted.key(), present,
                wanted.revision());
  }
  if (!precondition.has_latest_version())
    return fail(Errc::kInvalidArgument, "a precondition is empty or of an unknown kind");
  const auto& wanted = precondition.latest_version();
  BALLAST_TRY_STATUS(check_model(wanted.model()));
  BALLAST_TRY(const auto row, context.rows.row<pb::ModelRow>(model_key(wanted.model())));
  const uint64_t present = row ? row->latest_version() : 0;
  if (present == wanted.version()) return {};
  if (present == 0)
    return fail(Errc::kConflict, "model '{}' does not exist; version {} was expected",
                wanted.model(), wanted.version());
  return fail(Errc::kConflict, "the latest version of model '{}' is {}, not {}", wanted.model(),
              present, wanted.version());
}

OperationDone apply_operation(ApplyContext& context, const pb::Operation& operation) {
  switch (operation.kind_case()) {
    case pb::Operation::kPutKey: return put_key(context, operation.put_key());
    case pb::Operation::kDeleteKey: return delete_key(context, operation.delete_key());
    case pb::Operation::kDeletePrefix: return delete_prefix(context, operation.delete_prefix());
    case pb::Operation::kPublishVersion:
      return publish_version(context, operation.publish_version());
    case pb::Operation::kDeleteVersion: return delete_version(context, operation.delete_version());
    case pb::Operation::kSetAlias: return set_alias(context, operation.set_alias());
    case pb::Operation::kRollbackAlias: return rollback_alias(context, operation.rollback_alias());
    case pb::Operation::kExpire: return expire(context, operation.expire());
    case pb::Operation::KIND_NOT_SET: break;
  }
  return fail(Errc::kInvalidArgument, "an operation is empty or of an unknown kind");
}

}  // namespace ballast::storage
