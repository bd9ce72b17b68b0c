// What the state machine's tests share: entries and their application, one by one or in batches.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "proto/base/crc32c.h"
#include "proto/base/limits.h"
#include "storage/kv/database.h"
#include "storage/kv/state_machine.h"
#include "tests/unit/block_reference.h"
#include "tests/unit/storage/temporary_directory.h"
#include "tests/unit/storage/test_payloads.h"

namespace ballast::storage {

constexpr uint64_t kMinute = 60'000;
constexpr uint64_t kHour = 60 * kMinute;

inline Bytes block_bytes(uint64_t seed, size_t size) {
  MutableBytes bytes(size);
  uint64_t state = seed * 0x9E3779B97F4A7C15 + 1;
  for (size_t i = 0; i < size; ++i) {
    state = state * 6364136223846793005 + 1442695040888963407;
    bytes.data()[i] = static_cast<std::byte>(state >> 56);
  }
  return Bytes(std::move(bytes));
}

inline Digest digest_of(const pb::BlockRef& reference) {
  return *Digest::from_raw(reference.digest());
}

template <class Message>
Bytes message_bytes(const Message& message) {
  return Bytes::copy_of(message.SerializeAsString());
}

inline pb::Tensor tensor_of(const std::vector<pb::BlockRef>& blocks, const std::string& name = "") {
  pb::Tensor tensor;
  tensor.set_name(name);
  tensor.set_dtype(1);
  tensor.mutable_codec()->set_id(2);
  tensor.set_values_per_block(16);
  tensor.add_shape(16 * blocks.size());
  for (const pb::BlockRef& block : blocks) *tensor.add_blocks() = block;
  return tensor;
}

inline pb::Operation put_key(const std::string& key, pb::Tensor tensor) {
  pb::Operation operation;
  operation.mutable_put_key()->set_key(key);
  *operation.mutable_put_key()->mutable_tensor() = std::move(tensor);
  return operation;
}
inline pb::Operation delete_key(const std::string& key) {
  pb::Operation operation;
  operation.mutable_delete_key()->set_key(key);
  return operation;
}
inline pb::Operation delete_prefix(const std::string& prefix) {
  pb::Operation operation;
  operation.mutable_delete_prefix()->set_prefix(prefix);
  return operation;
}
inline pb::Operation publish(const std::string& model, const pb::BlockRef& manifest) {
  pb::Operation operation;
  operation.mutable_publish_version()->set_model(model);
  *operation.mutable_publish_version()->mutable_manifest() = manifest;
  return operation;
}
inline pb::Operation delete_version(const std::string& model, uint64_t version) {
  pb::Operation operation;
  operation.mutable_delete_version()->set_model(model);
  operation.mutable_delete_version()->set_version(version);
  return operation;
}
inline pb::Operation set_alias(const std::string& model, const std::string& alias, uint64_t version,
                               std::optional<uint64_t> expect = std::nullopt) {
  pb::Operation operation;
  auto& request = *operation.mutable_set_alias();
  request.set_model(model);
  request.set_alias(alias);
  request.set_version(version);
  request.set_has_expect(expect.has_value());
  request.set_expect(expect.value_or(0));
  return operation;
}
inline pb::Operation rollback(const std::string& model, const std::string& alias) {
  pb::Operation operation;
  operation.mutable_rollback_alias()->set_model(model);
  operation.mutable_rollback_alias()->set_alias(alias);
  return operation;
}
inline pb::Operation expire(uint32_t rows_max) {
  pb::Operation operation;
  operation.mutable_expire()->set_rows_max(rows_max);
  return operation;
}
inline pb::Precondition key_at(const std::string& key, uint64_t revision) {
  pb::Precondition precondition;
  precondition.mutable_key_revision()->set_key(key);
  precondition.mutable_key_revision()->set_revision(revision);
  return precondition;
}
inline pb::Precondition latest_is(const std::string& model, uint64_t version) {
  pb::Precondition precondition;
  precondition.mutable_latest_version()->set_model(model);
  precondition.mutable_latest_version()->set_version(version);
  return precondition;
}

inline Entry block_entry(uint64_t index, const Bytes& bytes, uint64_t time_ms, uint64_t lease_ms) {
  pb::BlockEntry header;
  *header.mutable_block() = reference_of(bytes);
  header.set_time_ms(time_ms);
  header.set_lease_ms(lease_ms);
  return {Term(1), Index(index), EntryKind::kBlock, message_bytes(header), bytes};
}

inline Entry commit_entry(uint64_t index, uint64_t time_ms,
                          const std::vector<pb::Operation>& operations,
                          const std::vector<pb::Precondition>& preconditions = {},
                          const std::string& session = "", uint64_t sequence = 0) {
  pb::CommitEntry header;
  header.set_session(session);
  header.set_sequence(sequence);
  header.set_time_ms(time_ms);
  for (const auto& precondition : preconditions) *header.add_preconditions() = precondition;
  for (const auto& operation : operations) *header.add_operations() = operation;
  return {Term(1), Index(index), EntryKind::kCommit, message_bytes(header), {}};
}

inline std::unique_ptr<StateMachine> open_state(
    const std::string& directory,
    std::shared_ptr<const Payloads> payloads = std::make_shared<TestPayloads>()) {
  StateOptions options;
  options.directory = directory;
  options.write_buffer_bytes = 8 << 20;
  options.block_cache_bytes = 8 << 20;
  auto machine = StateMachine::open(options, std::move(payloads));
  EXPECT_TRUE(machine) << machine.error().to_string();
  return machine ? *std::move(machine) : nullptr;
}

// Rows that somebody else owns and looks at.
class LentRows : public RowStore {
 public:
  explicit LentRows(RowStore& rows) : rows_(rows) {}
  Result<std::optional<std::string>> get(const std::string& key) const override {
    return rows_.get(key);
  }
  Result<std::optional<Bytes>> get_large(const std::string& key) const override {
    return rows_.get_large(key);
  }
  std::unique_ptr<RowCursor> scan(const std::string& lower,
                                  const std::string& upper) const override {
    return rows_.scan(lower, upper);
  }
  Result<std::optional<std::string>> last_key(const std::string& lower,
                                              const std::string& upper) const override {
    return rows_.last_key(lower, upper);
  }
  std::unique_ptr<RowView> snapshot() const override { return rows_.snapshot(); }
  Status write(std::span<const RowChange> changes) override { return rows_.write(changes); }
  Status verify() const override { return rows_.verify(); }
  Status flush() override { return rows_.flush(); }
  uint64_t disk_bytes() const override { return rows_.disk_bytes(); }

 private:
  RowStore& rows_;
};

// A machine, the entries it was given, and a clock for their time stamps.
class StateTester {
 public:
  explicit StateTester(std::string directory,
                       std::shared_ptr<TestPayloads> payloads = std::make_shared<TestPayloads>())
      : directory_(std::move(directory)), payloads_(std::move(payloads)) {
    open();
  }
  StateTester(const StateTester&) = delete;
  StateTester& operator=(const StateTester&) = delete;
  ~StateTester() { close(); }

  StateMachine& machine() { return *machine_; }
  TestPayloads& payloads() { return *payloads_; }
  Result<std::vector<pb::ApplyResult>> try_apply(std::span<const Entry> entries) {
    return machine_->apply(payloads_->commit(entries));
  }
  const std::vector<Entry>& entries() const { return entries_; }
  const std::vector<pb::ApplyResult>& results() const { return results_; }
  uint64_t now = 10 * kHour;

  pb::ApplyResult apply(Entry entry) {
    entries_.push_back(entry);
    auto applied = try_apply({&entries_.back(), 1});
    EXPECT_TRUE(applied) << applied.error().to_string();
    if (!applied) return {};
    results_.push_back(applied->front());
    return applied->front();
  }
  pb::BlockRef stage(const Bytes& bytes, uint64_t lease_ms = kHour) {
    EXPECT_EQ(apply(block_entry(next(), bytes, now, lease_ms)).code(), 0u);
    return reference_of(bytes);
  }
  template <class Message>
  pb::BlockRef stage_message(const Message& message) {
    return stage(message_bytes(message));
  }
  // A version with one part that holds these tensors.
  pb::BlockRef stage_manifest(const std::string& model, const std::vector<pb::Tensor>& tensors) {
    pb::ManifestPart part;
    for (const pb::Tensor& tensor : tensors) *part.add_tensors() = tensor;
    pb::Manifest manifest;
    manifest.set_model(model);
    *manifest.add_parts() = stage_message(part);
    manifest.set_tensors(tensors.size());
    return stage_message(manifest);
  }
  pb::ApplyResult commit(const std::vector<pb::Operation>& operations,
                         const std::vector<pb::Precondition>& preconditions = {}) {
    return apply(commit_entry(next(), now, operations, preconditions));
  }
  pb::ApplyResult commit_as(const std::string& session, uint64_t sequence,
                            const std::vector<pb::Operation>& operations) {
    return apply(commit_entry(next(), now, operations, {}, session, sequence));
  }
  uint64_t next() const { return machine_->applied().index.value() + 1; }
  bool has(const pb::BlockRef& reference) const {
    const Digest digest = digest_of(reference);
    return machine_->missing({&digest, 1})->empty();
  }
  std::string digest() const { return machine_->state_digest()->digest(); }
  // The block is stored, with these bytes.
  void expect_whole(const Bytes& bytes) const {
    const auto block = machine_->block(digest_of(reference_of(bytes)));
    ASSERT_TRUE(block) << block.error().to_string();
    EXPECT_TRUE(block->bytes == bytes);
  }
  // How many blocks are.
  int damaged() const {
    return machine_->verify_blocks(std::nullopt, {std::chrono::hours(1)})->damaged_size();
  }
  // The rows under the machine.
  RowStore& rows() { return *database_; }
  void reopen() {
    close();
    open();
  }
  // Nothing else may be asked for afterwards but reopen().
  void close() {
    machine_.reset();
    database_.reset();
  }

 private:
  void open() {
    auto database = open_database({directory_, 8 << 20, 8 << 20, nullptr});
    ASSERT_TRUE(database) << database.error().to_string();
    database_ = *std::move(database);
    auto machine = StateMachine::over(std::make_unique<LentRows>(*database_), payloads_);
    ASSERT_TRUE(machine) << machine.error().to_string();
    machine_ = *std::move(machine);
  }

  std::string directory_;
  std::shared_ptr<TestPayloads> payloads_;
  std::unique_ptr<RowStore> database_;
  std::unique_ptr<StateMachine> machine_;
  std::vector<Entry> entries_;
  std::vector<pb::ApplyResult> results_;
};

// EXPECT_PRED-like: the code, and a part of the message.
inline void expect_refused(const pb::ApplyResult& result, Errc code, std::string_view part) {
  EXPECT_EQ(static_cast<Errc>(result.code()), code) << result.message();
  EXPECT_NE(result.message().find(part), std::string::npos) << result.message();
  EXPECT_EQ(result.operations_size(), 0);
}
#define EXPECT_APPLIED(result) EXPECT_EQ((result).code(), 0u) << (result).message()

}  // namespace ballast::storage
