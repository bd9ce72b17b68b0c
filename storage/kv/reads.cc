#include <algorithm>
#include <functional>
#include <utility>

#include "proto/base/limits.h"
#include "proto/base/names.h"
#include "storage/kv/block_rows.h"
#include "storage/kv/row_keys.h"
#include "storage/kv/state_impl.h"

namespace ballast::storage {
namespace {

// What a repeated field's element takes besides itself: a tag and a length.
constexpr size_t kElementBytes = 6;

size_t page_limit(uint32_t limit) {
  return limit == 0 ? limits::kListPageMax : std::min<size_t>(limit, limits::kListPageMax);
}

// Visits the rows that begin with `prefix`, behind `after` (exclusive; empty: from the start).
// `visit` gets the key without its kind; the rows it sees are those of one moment.
using RowVisitor = std::function<Result<bool>(std::string_view name, std::string_view value)>;
Status visit_rows(const RowView& rows, const std::string& prefix, const std::string& after,
                  const RowVisitor& visit) {
  // The first key behind `after` is `after` and a zero byte.
  const auto found =
      rows.scan(std::max(prefix, after.empty() ? prefix : after + '\0'), prefix_end(prefix));
  for (; found->valid(); found->next()) {
    BALLAST_TRY(const bool more, visit(found->key().substr(1), found->value()));
    if (!more) return {};
  }
  return found->status();
}

// Fills a page; `element` makes a reply's element of a row. Sets `more` if the page was too small.
template <class Element, class MakeElement>
Status fill_page(const RowView& rows, const std::string& prefix, const std::string& after,
                 uint32_t limit, google::protobuf::RepeatedPtrField<Element>& page, bool& more,
                 const MakeElement& element) {
  size_t bytes = 0;
  return visit_rows(rows, prefix, after,
                    [&](std::string_view name, std::string_view value) -> Result<bool> {
                      BALLAST_TRY(Element made, element(name, value));
                      bytes += made.ByteSizeLong() + kElementBytes;
                      more = static_cast<size_t>(page.size()) >= page_limit(limit) ||
                             (!page.empty() && bytes > limits::kListPageBytesMax);
                      if (more) return false;
                      page.Add(std::move(made));
                      return true;
                    });
}

Result<pb::KeySummary> summarize_key(std::string_view name, std::string_view value) {
  BALLAST_TRY(const auto row, parse_row<pb::KeyRow>(value));
  pb::KeySummary summary;
  summary.set_key(std::string(name));
  summary.set_revision(row.revision());
  summary.set_dtype(row.tensor().dtype());
  *summary.mutable_shape() = row.tensor().shape();
  if (row.tensor().has_codec()) *summary.mutable_codec() = row.tensor().codec();
  summary.set_encoded_bytes(row.tensor().encoded_bytes());
  if (row.tensor().has_pruning()) {
    *summary.mutable_pruning() = row.tensor().pruning();
    summary.mutable_pruning()->clear_kept();  // a page has many keys
  }
  return summary;
}

Result<pb::ModelSummary> summarize_model(std::string_view name, std::string_view value) {
  BALLAST_TRY(const auto row, parse_row<pb::ModelRow>(value));
  pb::ModelSummary summary;
  summary.set_model(std::string(name));
  summary.set_latest_version(row.latest_version());
  summary.set_live_versions(row.live_versions());
  return summary;
}

void keep_last_changes(pb::AliasSummary& alias, int changes) {
  if (const int surplus = alias.history_size() - changes; surplus > 0)
    alias.mutable_history()->DeleteSubrange(0, surplus);
}

// The message has no pages: with many aliases their older history goes first.
void fit_into_page(pb::ListAliasesReply& reply) {
  for (const int changes : {static_cast<int>(limits::kAliasHistoryMax), 16, 4, 1}) {
    for (pb::AliasSummary& alias : *reply.mutable_aliases()) keep_last_changes(alias, changes);
    if (reply.ByteSizeLong() <= limits::kListPageBytesMax) return;
  }
  while (reply.ByteSizeLong() > limits::kListPageBytesMax) reply.mutable_aliases()->RemoveLast();
}

}  // namespace

Result<pb::KeyRow> StateMachine::key(std::string_view key) const {
  BALLAST_TRY_STATUS(check_key(key));
  BALLAST_TRY(auto row, impl_->store->row<pb::KeyRow>(key_key(key)));
  if (!row) return fail(Errc::kNotFound, "key '{}' does not exist", key);
  return *std::move(row);
}

Result<pb::ListKeysReply> StateMachine::list_keys(const pb::ListKeys& request) const {
  pb::ListKeysReply reply;
  bool more = false;
  BALLAST_TRY_STATUS(fill_page(*impl_->store, key_key(request.prefix()),
                               request.after().empty() ? "" : key_key(request.after()),
                               request.limit(), *reply.mutable_keys(), more, summarize_key));
  reply.set_more(more);
  return reply;
}

Result<pb::ListModelsReply> StateMachine::list_models(const pb::ListModels& request) const {
  pb::ListModelsReply reply;
  bool more = false;
  BALLAST_TRY_STATUS(fill_page(*impl_->store, model_key(request.prefix()),
                               request.after().empty() ? "" : model_key(request.after()),
                               request.limit(), *reply.mutable_models(), more, summarize_model));
  reply.set_more(more);
  return reply;
}

Result<pb::ListAliasesReply> StateMachine::list_aliases(const pb::ListAliases& request) const {
  const std::string& model = request.model();
  BALLAST_TRY_STATUS(check_model(model));
  BALLAST_TRY(const auto row, impl_->store->get(model_key(model)));
  if (!row) return fail(Errc::kNotFound, "model '{}' does not exist", model);
  pb::ListAliasesReply reply;
  const std::string prefix = alias_prefix(model);
  BALLAST_TRY_STATUS(visit_rows(*impl_->store, prefix, "",
                                [&](std::string_view name, std::string_view value) -> Result<bool> {
                                  BALLAST_TRY(auto found, parse_row<pb::AliasRow>(value));
                                  pb::AliasSummary& alias = *reply.add_aliases();
                                  alias.set_alias(std::string(name.substr(prefix.size() - 1)));
                                  alias.mutable_history()->Swap(found.mutable_history());
                                  return static_cast<size_t>(reply.aliases_size()) <
                                         limits::kListPageMax;
                                }));
  fit_into_page(reply);
  return reply;
}

Result<pb::GetVersionReply> StateMachine::version(const pb::GetVersion& request) const {
  const std::string& model = request.model();
  BALLAST_TRY_STATUS(check_model(model));
  const std::unique_ptr<RowView> rows = impl_->store->snapshot();
  pb::GetVersionReply reply;
  reply.set_model(model);
  reply.set_version(request.version());
  if (request.version() == 0 && !request.alias().empty()) {
    BALLAST_TRY_STATUS(check_alias(request.alias()));
    BALLAST_TRY(const auto alias, rows->row<pb::AliasRow>(alias_key(model, request.alias())));
    if (!alias) return fail(Errc::kNotFound, "alias {}@{} does not exist", model, request.alias());
    reply.set_version(alias->history().rbegin()->version());
  } else if (request.version() == 0) {
    const std::string prefix = version_prefix(model);
    BALLAST_TRY(const auto latest, rows->last_key(prefix, prefix_end(prefix)));
    if (!latest) return fail(Errc::kNotFound, "model '{}' has no versions", model);
    reply.set_version(number_behind(*latest, prefix.size()));
  }
  BALLAST_TRY(auto row, rows->row<pb::VersionRow>(version_key(model, reply.version())));
  if (!row) return fail(Errc::kNotFound, "version {}@{} does not exist", model, reply.version());
  *reply.mutable_row() = *std::move(row);
  return reply;
}

Result<std::vector<Digest>> StateMachine::missing(std::span<const Digest> digests) const {
  std::vector<Digest> missing;
  for (const Digest& digest : digests) {
    BALLAST_TRY(const auto row, impl_->store->get(block_key(digest)));
    if (!row) missing.push_back(digest);
  }
  return missing;
}

Result<StateMachine::Block> StateMachine::block(const Digest& digest, ReadFrom from) const {
  // One moment for all its rows: else a block that is reclaimed between them looks damaged.
  auto stored = impl_->stored_block(*impl_->store->snapshot(), digest, from);
  if (!stored) {
    impl_->note_damage(digest, stored.error());
    return std::unexpected(std::move(stored).error());
  }
  if (!*stored) return fail(Errc::kNotFound, "block {} is not stored", digest.brief());
  return Block{block_reference(digest, (*stored)->row), std::move((*stored)->bytes)};
}

Result<std::optional<StoredBlock>> StateMachine::Impl::stored_block(const RowView& rows,
                                                                    const Digest& digest,
                                                                    ReadFrom from) const {
  auto block = storage::stored_block(rows, *payloads, digest, from);
  if (block) return block;
  return storage::stored_block(*store->snapshot(), *payloads, digest, from);
}

}  // namespace ballast::storage
