// What any client may stage and commit: never an error that stops the replicas, and the same rows
// and results whether entries are applied one by one or at once.
//
// The input is a RowPage. Each row is an entry: the key's first byte says what sort, its second how
// much time has passed; the value is a pb::Commit as a client sends it, or a block. Since nobody
// guesses a SHA-256, references mean blocks that are staged: by the first byte of their digests.
#include <google/protobuf/message.h>

#include <map>
#include <string>
#include <vector>

#include "proto/base/check.h"
#include "proto/service.pb.h"
#include "storage/kv/apply.h"
#include "storage/kv/row_keys.h"
#include "storage/kv/segment_use.h"
#include "tests/sim/memory_rows.h"
#include "tests/unit/block_reference.h"
#include "tests/unit/storage/test_payloads.h"

namespace {

using namespace ballast;
using namespace ballast::storage;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

constexpr int kEntriesMax = 40;
constexpr uint64_t kEntriesPerSegment = 4;
constexpr uint64_t kTimeUnit = 4 * 60'000;  // ms: sessions end after 255 of them, and some
constexpr uint64_t kLease = 60'000;

class Story {
 public:
  explicit Story(const pb::RowPage& rows) {
    for (int i = 0; i < std::min(rows.rows_size(), kEntriesMax); ++i) add(rows.rows(i));
  }
  const std::vector<Entry>& entries() const { return entries_; }
  uint64_t now() const { return now_; }

 private:
  void add(const pb::RowPage::Row& row) {
    const std::string& key = row.key();
    if (key.size() > 1) now_ += static_cast<unsigned char>(key[1]) * kTimeUnit;
    switch (key.empty() ? 'c' : key[0]) {
      case 'b': stage(row.value()); break;
      case 'l': stage(pointed<pb::BlockList>(row.value())); break;
      case 'm': stage(pointed<pb::Manifest>(row.value())); break;
      case 'p': stage(pointed<pb::ManifestPart>(row.value())); break;
      default: commit(row.value()); break;
    }
  }

  void stage(const std::string& bytes) {
    if (bytes.empty() || bytes.size() > limits::kBlockBytesMax) return;
    const Bytes payload = Bytes::copy_of(bytes);
    pb::BlockEntry header;
    *header.mutable_block() = reference_of(payload);
    header.set_time_ms(now_);
    header.set_lease_ms(kLease);
    staged_.push_back(header.block());
    append(EntryKind::kBlock, header, payload);
  }

  void commit(const std::string& value) {
    pb::Commit asked;
    if (!asked.ParseFromString(value) || asked.operations().empty()) return;
    point(asked);
    pb::CommitEntry header;
    header.set_session(asked.session());
    header.set_sequence(asked.sequence());
    header.set_time_ms(now_);
    *header.mutable_preconditions() = asked.preconditions();
    *header.mutable_operations() = asked.operations();
    append(EntryKind::kCommit, header, {});
  }

  void append(EntryKind kind, const Message& header, const Bytes& payload) {
    const Bytes bytes = Bytes::copy_of(header.SerializeAsString());
    if (bytes.size() > limits::kEntryHeaderBytesMax) return;
    entries_.push_back({Term(1), Index(entries_.size() + 1), kind, bytes, payload});
  }

  template <class T>
  std::string pointed(const std::string& value) const {
    T message;
    if (!message.ParseFromString(value)) return value;
    point(message);
    return message.SerializeAsString();
  }

  // Every reference in the message, at any depth.
  void point(Message& message) const {
    if (auto* reference = dynamic_cast<pb::BlockRef*>(&message)) {
      if (reference->digest().empty() || staged_.empty()) return;
      *reference = staged_[static_cast<unsigned char>(reference->digest()[0]) % staged_.size()];
      return;
    }
    const auto* reflection = message.GetReflection();
    std::vector<const FieldDescriptor*> fields;
    reflection->ListFields(message, &fields);
    for (const FieldDescriptor* field : fields) {
      if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) continue;
      if (!field->is_repeated()) {
        point(*reflection->MutableMessage(&message, field));
        continue;
      }
      for (int i = 0; i < reflection->FieldSize(message, field); ++i)
        point(*reflection->MutableRepeatedMessage(&message, field, i));
    }
  }

  uint64_t now_ = 1'000'000'000;
  std::vector<pb::BlockRef> staged_;
  std::vector<Entry> entries_;
};

struct Replica {
  sim::MemoryRows rows{raft::Prng(1)};
  std::shared_ptr<TestPayloads> payloads = std::make_shared<TestPayloads>(kEntriesPerSegment);
  std::unique_ptr<StateMachine> state = *StateMachine::over(rows.open(), payloads);
  std::vector<std::string> results;

  void apply(std::span<const Entry> entries) {
    const auto applied = state->apply(payloads->commit(entries));
    BALLAST_CHECK(applied.has_value(), "{}", applied.error().to_string());
    for (const pb::ApplyResult& result : *applied) {
      BALLAST_CHECK(result.code() == 0 || is_refusal(static_cast<Errc>(result.code())));
      results.push_back(result.SerializeAsString());
    }
  }
};

// What is counted somewhere is what there is.
void check_counts(const Replica& replica, uint64_t now) {
  const auto view = replica.state->rows();
  uint64_t blocks = 0, bytes = 0, unnamed = 0;
  const auto rows = view->scan(kind_key(RowKind::kBlock), prefix_end(kind_key(RowKind::kBlock)));
  for (; rows->valid(); rows->next()) {
    const auto row = *parse_row<pb::BlockRow>(rows->value());
    ++blocks;
    bytes += row.length();
    if (row.references() == 0) ++unnamed;
  }
  const auto position = replica.state->applied();
  BALLAST_CHECK(position.blocks == blocks && position.block_bytes == bytes);
  const auto garbage = replica.state->garbage("", now, std::chrono::hours(1));
  BALLAST_CHECK(garbage && garbage->blocks() == unnamed, "{} blocks have no name", unnamed);
  BALLAST_CHECK(*replica.state->segments() == *count_uses(*view));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pb::RowPage rows;
  if (!rows.ParseFromArray(data, static_cast<int>(size))) return 0;
  const Story story(rows);
  if (story.entries().empty()) return 0;
  Replica one, other;
  for (const Entry& entry : story.entries()) one.apply({&entry, 1});
  other.apply(story.entries());
  BALLAST_CHECK(one.results == other.results);
  BALLAST_CHECK(one.state->state_digest()->digest() == other.state->state_digest()->digest());
  check_counts(one, story.now());
  return 0;
}
