#include "tests/sim/history.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "tests/sim/staleness.h"

namespace ballast::sim {
namespace {

// The state machine once more, as simple as it gets: keys, revisions and sessions. It shares no
// code with the real one.
class Model {
 public:
  struct Key {
    uint64_t revision = 0;
    std::string digest;
  };
  struct Outcome {
    uint64_t index = 0;
    uint32_t code = 0;
  };

  void apply(const Entry& entry) {
    if (entry.kind == EntryKind::kCommit) commit(entry);
  }

  // What the key was after entry `applied`.
  Key key_at(const std::string& key, uint64_t applied) const {
    const auto found = keys_.find(key);
    if (found == keys_.end()) return {};
    auto at = found->second.upper_bound(applied);
    return at == found->second.begin() ? Key{} : std::prev(at)->second;
  }
  // What applying the first commit of this session and sequence gave; null if none is in the log.
  const Outcome* outcome(const std::string& session, uint64_t sequence) const {
    const auto found = outcomes_.find({session, sequence});
    return found == outcomes_.end() ? nullptr : &found->second;
  }

 private:
  void commit(const Entry& entry) {
    pb::CommitEntry commit;
    if (!commit.ParseFromArray(entry.header.data(), static_cast<int>(entry.header.size()))) return;
    if (!commit.session().empty()) {
      uint64_t& last = sessions_[commit.session()];
      if (commit.sequence() <= last) return;  // a retry, or one that came too late
      last = commit.sequence();
    }
    const uint64_t index = entry.index.value();
    const uint32_t code = apply_operations(commit, index);
    outcomes_[{commit.session(), commit.sequence()}] = {index, code};
  }

  uint32_t apply_operations(const pb::CommitEntry& commit, uint64_t index) {
    for (const pb::Precondition& precondition : commit.preconditions()) {
      const auto& wanted = precondition.key_revision();
      if (key_at(wanted.key(), index).revision != wanted.revision())
        return static_cast<uint32_t>(Errc::kConflict);
    }
    for (const pb::Operation& operation : commit.operations()) {
      if (operation.has_put_key()) {
        const auto& put = operation.put_key();
        keys_[put.key()][index] = {index, put.tensor().blocks(0).digest()};
      } else if (operation.has_delete_key()) {
        const std::string& key = operation.delete_key().key();
        if (key_at(key, index).revision == 0) return static_cast<uint32_t>(Errc::kNotFound);
        keys_[key][index] = {};
      }
    }
    return 0;
  }

  std::map<std::string, std::map<uint64_t, Key>> keys_;  // by index
  std::map<std::string, uint64_t> sessions_;
  std::map<std::pair<std::string, uint64_t>, Outcome> outcomes_;
};

}  // namespace

std::vector<std::string> History::check(const std::vector<Entry>& log) const {
  std::vector<std::string> wrong;
  Model model;
  for (const Entry& entry : log) model.apply(entry);
  for (const AckRecord& ack : acks) {
    const bool there =
        ack.index.value() <= log.size() && log[ack.index.value() - 1].term == ack.term;
    if (!there)
      wrong.push_back(fmt::format("acknowledged entry {} of term {} is lost", ack.index, ack.term));
  }
  for (const WriteRecord& write : writes) {
    if (!write.code) continue;
    const Model::Outcome* outcome = model.outcome(write.session, write.sequence);
    if (outcome == nullptr || outcome->index != write.index || outcome->code != *write.code)
      wrong.push_back(fmt::format(
          "write {} of a session gave code {} at index {}; the log says code {} at index {}",
          write.sequence, *write.code, write.index, outcome ? outcome->code : 0,
          outcome ? outcome->index : 0));
  }
  for (const ReadRecord& read : reads) {
    const Model::Key key = model.key_at(read.key, read.applied.value());
    if (key.revision != read.revision || key.digest != read.digest)
      wrong.push_back(fmt::format("a read of '{}' at index {} saw revision {}, not {}", read.key,
                                  read.applied, read.revision, key.revision));
  }
  // The log's order is the order of the writes; what is left is that reads keep to real time.
  for (std::string& stale : stale_reads(*this)) wrong.push_back(std::move(stale));
  return wrong;
}

}  // namespace ballast::sim
