// What any peer may send as the pages of a snapshot, and what a state machine makes of rows that
// were taken: no crash, nothing added that is not in order and of a snapshot's kinds, and the state
// that is installed gives the same snapshot on.
//
// The input is one RowPage. It comes as it is, and then with its rows in order, so that what lies
// behind that check is seen.
#include <algorithm>
#include <map>
#include <set>
#include <vector>

#include "proto/base/check.h"
#include "proto/storage.pb.h"
#include "storage/kv/apply.h"
#include "storage/kv/row_keys.h"
#include "storage/snapshot/incoming.h"
#include "storage/snapshot/snapshot_rows.h"
#include "tests/sim/memory_rows.h"

namespace {

using namespace ballast;
using namespace ballast::storage;

constexpr int kRowsOfPage = 3;
constexpr uint64_t kNow = 1'000'000'000;

using Rows = std::map<std::string, std::string, std::less<>>;

class NoPayloads final : public Payloads {
 public:
  Result<Bytes> read(Place, uint32_t, uint32_t, ReadFrom) const override { return no_log(); }
  Status restore(Place, const Bytes&) const override { return no_log(); }

 private:
  static std::unexpected<Error> no_log() { return fail(Errc::kCorrupt, "there is no log"); }
};

// No block comes.
class NoBlocks final : public ArrivingBlocks {
 public:
  Result<Place> add(const pb::BlockRef&, const Bytes&) override {
    return fail(Errc::kIo, "there is no disk");
  }
  Status sync() override { return {}; }
  Status keep(const std::set<uint64_t>&) override { return {}; }
  Status seal() override { return {}; }
};

void expect_corrupt(const Error& error) {
  BALLAST_CHECK(error.code == Errc::kCorrupt, "{}", error.to_string());
}

std::vector<pb::RowPage> pages_of(const pb::RowPage& rows) {
  std::vector<pb::RowPage> pages;
  for (int i = 0; i < rows.rows_size(); ++i) {
    if (i % kRowsOfPage == 0) pages.emplace_back();
    *pages.back().add_rows() = rows.rows(i);
  }
  return pages;
}

// False if the page that does not belong there was found; what came before it is there, then.
bool add_all(IncomingSnapshot& incoming, const pb::RowPage& rows) {
  BALLAST_CHECK(incoming.begin().has_value());
  std::string last;
  for (const pb::RowPage& page : pages_of(rows)) {
    const Status added = incoming.add(page);
    if (!added) {
      expect_corrupt(added.error());
      return false;
    }
    for (const pb::RowPage::Row& row : page.rows()) {
      BALLAST_CHECK(row.key() > last && row.key() < kind_key(kFirstOfThisNode));
      last = row.key();
    }
  }
  return true;
}

Rows shared(const Rows& rows) {
  return {rows.begin(), rows.lower_bound(kind_key(kFirstOfThisNode))};
}

Rows given_on(const StateMachine& state) {
  Rows rows;
  std::string after;
  for (bool last = false; !last;) {
    const auto page = snapshot_page(*state.rows(), after, 100);
    BALLAST_CHECK(page.has_value());
    last = page->last;
    for (const pb::RowPage::Row& row : page->rows.rows()) {
      BALLAST_CHECK(rows.empty() || row.key() > rows.rbegin()->first);
      rows.emplace(row.key(), row.value());
      after = row.key();
    }
  }
  return rows;
}

void read_lists(const StateMachine& state) {
  pb::ListKeys keys;
  keys.set_limit(10);
  (void)state.list_keys(keys);
  pb::ListModels models;
  models.set_limit(10);
  const auto found = state.list_models(models);
  if (!found) return;
  for (const pb::ModelSummary& model : found->models()) {
    pb::ListAliases aliases;
    aliases.set_model(model.model());
    (void)state.list_aliases(aliases);
    pb::GetVersion version;
    version.set_model(model.model());
    (void)state.version(version);
  }
}

// Rows may contradict each other, and then it says so.
void use(StateMachine& state) {
  read_lists(state);
  (void)state.has_expired(kNow);
  (void)state.garbage("", kNow, std::chrono::hours(1));
  (void)state.verify_blocks(std::nullopt, {std::chrono::hours(1)});
  (void)state.segments();
  pb::CommitEntry commit;
  commit.set_time_ms(kNow);
  commit.add_operations()->mutable_expire()->set_rows_max(10);
  commit.add_operations()->mutable_delete_prefix()->set_prefix("k");
  Committed entry;
  entry.term = state.applied().term;
  entry.index = state.applied().index + 1;
  entry.kind = EntryKind::kCommit;
  entry.header = Bytes::copy_of(commit.SerializeAsString());
  if (const auto applied = state.apply({&entry, 1}); !applied) expect_corrupt(applied.error());
}

void install(const pb::RowPage& rows) {
  sim::MemoryRows memory{raft::Prng(1)};
  const auto incoming = IncomingSnapshot::over(memory.open(), std::make_unique<NoBlocks>());
  if (!add_all(*incoming, rows)) return;
  const Rows came = memory.rows();
  BALLAST_CHECK(came.size() == static_cast<size_t>(rows.rows_size()));
  if (const auto missing = incoming->missing(nullptr, std::nullopt, 100); !missing)
    expect_corrupt(missing.error());
  const auto at = look_at_rows(*memory.open());
  if (!at) return;
  const auto applied = memory.open()->row<pb::AppliedRow>(kind_key(RowKind::kApplied));
  if (!applied || !*applied) return;
  const LogBase base{Index((*applied)->index()), Term((*applied)->term()), 7};
  const Status finished = incoming->finish(base);
  if (!finished) {
    const Errc code = finished.error().code;
    BALLAST_CHECK(code == Errc::kCorrupt || code == Errc::kRefused, "{}",
                  finished.error().to_string());
    return;
  }
  BALLAST_CHECK(*installed_base(*memory.open()) == base);
  const auto state = StateMachine::over(memory.open(), std::make_shared<NoPayloads>());
  if (!state) return expect_corrupt(state.error());
  Rows given = given_on(**state);
  BALLAST_CHECK(given == shared(memory.rows()));
  // But for the row that says how they are written.
  given.erase(kind_key(RowKind::kApplied));
  Rows before = came;
  before.erase(kind_key(RowKind::kApplied));
  BALLAST_CHECK(given == before);
  use(**state);
}

pb::RowPage in_order(const pb::RowPage& rows) {
  Rows sorted;
  for (const pb::RowPage::Row& row : rows.rows()) sorted.emplace(row.key(), row.value());
  pb::RowPage page;
  for (const auto& [key, value] : sorted) {
    pb::RowPage::Row& row = *page.add_rows();
    row.set_key(key);
    row.set_value(value);
  }
  return page;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pb::RowPage rows;
  if (!rows.ParseFromArray(data, static_cast<int>(size))) return 0;
  install(rows);
  install(in_order(rows));
  return 0;
}
