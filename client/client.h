// The Ballast client: start here.
//
//   auto client = Client::connect({.endpoints = {"127.0.0.1:7400"}});
//   if (!client) return report(client.error());
//   client->put("weights/layer0", {.dtype = DType::kF32, .shape = {64, 64}, .data = bytes}, {});
//
// Any node is a seed: the client learns the members from it, finds the primary by itself and
// follows it through a failover. Tensors are encoded here, before they are sent, and decoded here
// after their blocks' SHA-256 is verified, so every byte is checked from end to end.
//
// Every call has a deadline that covers all its retries. A write that is retried is applied once:
// blocks are named by their digest and a commit carries a session and a sequence number. A call
// whose outcome can't be known when its deadline passes fails with kUnknownOutcome, never with
// another code.
//
// Thread-safe: one Client may be used from many threads; calls block. It owns one background
// thread for its connections. Memory: a call holds at most `window_blocks` blocks of a tensor and
// their decoded values, whatever the tensor's size.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "proto/base/digest.h"
#include "proto/base/names.h"
#include "proto/base/result.h"
#include "proto/base/strong_int.h"
#include "quant/codec.h"
#include "quant/dtype.h"
#include "quant/error_report.h"
#include "quant/prune.h"

namespace ballast::client {

using quant::CodecSpec;
using quant::DType;
using quant::PruneSpec;
using quant::ValueRange;  // [first, first + count) of a tensor's values, in row-major order
using std::chrono::milliseconds;

// When a write is acknowledged.
enum class Ack {
  kAsync,    // taken into the primary's log
  kSync,     // durable on a majority
  kSyncAll,  // durable on every voter
};
Result<Ack> parse_ack(std::string_view text);  // "async", "sync", "sync_all"
std::string_view ack_name(Ack ack);

// How fresh a read must be.
class ReadLevel {
 public:
  static const ReadLevel kLinearizable;  // sees every write that was acknowledged before it began
  static const ReadLevel kAny;           // whatever the replica that answers has applied
  // Sees every write that was acknowledged earlier than `staleness` before the replica was asked,
  // by the replica's own clock. A replica that knows to be fresh enough answers at once; others ask
  // the primary first. 1 ms to 1 h; a read with another bound fails with kInvalidArgument, and one
  // that no replica could answer before the deadline with kTooStale or kUnavailable.
  static constexpr ReadLevel bounded(std::chrono::microseconds staleness) {
    return {Kind::kBounded, staleness};
  }

  bool operator==(const ReadLevel&) const = default;
  bool is_bounded() const { return kind_ == Kind::kBounded; }
  std::chrono::microseconds staleness() const { return staleness_; }  // REQUIRES: is_bounded()

 private:
  enum class Kind { kLinearizable, kAny, kBounded };
  constexpr ReadLevel(Kind kind, std::chrono::microseconds staleness)
      : kind_(kind), staleness_(staleness) {}

  Kind kind_;
  std::chrono::microseconds staleness_;
};
inline constexpr ReadLevel ReadLevel::kLinearizable{Kind::kLinearizable, {}};
inline constexpr ReadLevel ReadLevel::kAny{Kind::kAny, {}};
// "linearizable", "any", or "bounded=" with a whole number and its unit: us, ms, s, m or h.
Result<ReadLevel> parse_read_level(std::string_view text);

struct Options {
  std::vector<std::string> endpoints;   // HOST:PORT, at least one
  milliseconds deadline{30'000};        // of a call that gives none of its own
  milliseconds attempt_timeout{5'000};  // of one attempt at one node
  size_t window_blocks = 16;            // blocks in flight per call
  unsigned threads = 0;                 // that encode or decode; 0: one per core, at most 8
  bool pinned = false;  // speak to the given endpoints alone: no discovery, no redirection
};

// A tensor in memory. `data` is row-major, little-endian and has exactly the shape's values.
struct TensorView {
  DType dtype = DType::kF32;
  std::vector<uint64_t> shape;  // empty: a scalar
  std::span<const std::byte> data;
};

struct Tensor {
  DType dtype = DType::kF32;
  std::vector<uint64_t> shape;
  std::vector<std::byte> data;
};

// A tensor that is read piece by piece while it is written to the store.
struct TensorSource {
  std::string name;
  std::string section = "model";
  DType dtype = DType::kF32;
  std::vector<uint64_t> shape;
  // Fills `out` with the tensor's bytes from `offset` on. Called from several threads at once.
  std::function<Status(uint64_t offset, std::span<std::byte> out)> read;
};

// Where a write stands in the log, and what was promised of it.
struct Receipt {
  uint64_t group = 0;
  Term term;
  Index index;
  Ack asked = Ack::kSync;
  Ack reached = Ack::kSync;
};

struct BlockId {
  Digest digest;
  uint32_t length = 0;
  uint32_t crc32c = 0;
};

// What pruning took out of a tensor before it was encoded.
struct StoredPruning {
  PruneSpec spec;
  uint64_t removed = 0;       // values
  double removed_energy = 0;  // sum of x^2 over the finite ones of them
  uint64_t not_finite = 0;    // NaN and infinities among them
  // If whole slices went out: which stayed, and where they were. Else null.
  std::shared_ptr<const quant::KeptSlices> kept;

  std::vector<uint64_t> kept_indices() const;  // along that axis, in order; empty if `kept` is null
};

// How a tensor is to be stored.
struct Encoding {
  CodecSpec codec;
  std::optional<PruneSpec> prune;
};

// A tensor as it is stored.
struct StoredTensor {
  std::string name;             // empty for the tensor of a key
  std::string section;          // likewise
  DType dtype = DType::kF32;    // as it was written
  std::vector<uint64_t> shape;  // likewise
  CodecSpec codec;
  uint64_t values_per_block = 0;  // of what is encoded: see small_shape()
  uint64_t encoded_bytes = 0;     // without those of the base
  // Against what pruning left, if it was pruned; see error_with_pruning(). Absent: nothing was
  // lost.
  std::optional<quant::ErrorSums> error;
  std::vector<BlockId> blocks;  // empty if block_list is set
  std::optional<BlockId> block_list;
  std::optional<StoredPruning> pruning;
  // The tensor that blocks of this one are differences to; null if none is. Reads fetch it too, and
  // it is kept as long as this one. Its name and section are empty.
  std::shared_ptr<const StoredTensor> base;

  uint64_t values() const;
  uint64_t source_bytes() const;  // as it was written
  // The shape without the slices that pruning took out: that of what is encoded.
  std::vector<uint64_t> small_shape() const;
  uint64_t small_values() const;
  // Against the tensor as it was written: what pruning took out counts as error. The largest error
  // among that is not known, and max_abs_error is that of the rest.
  quant::ErrorSums error_with_pruning() const;
  size_t base_depth() const;  // how many bases lie under it
  // The values of the rows [first, end): a row is what one index of the first axis holds.
  // `small`: of the small tensor. Errors: kInvalidArgument for a scalar and for rows that it does
  // not have.
  Result<ValueRange> rows(uint64_t first, uint64_t end, bool small = false) const;
};

// Whether a tensor of this dtype and shape may be stored as a difference to `base`. Error
// kInvalidArgument says what is in the way: another dtype or shape, a codec that loses something,
// or slices that pruning took out of the base.
Status check_base(const StoredTensor& base, DType dtype, const std::vector<uint64_t>& shape);

// One call's progress, in the tensors' bytes as written. Called on the calling thread.
using Progress = std::function<void(uint64_t done_bytes, uint64_t total_bytes)>;

struct PutOptions {
  std::optional<CodecSpec> codec;  // default: the tensor's own dtype, exactly
  std::optional<PruneSpec> prune;
  // With codec lossless: a tensor, from stat() or a version, that this one is stored as a
  // difference to, block by block where that is smaller. Ignored unless check_base() takes it, it
  // is the top of less than limits::kBaseDepthMax differences itself, and `prune` takes no slices
  // out.
  std::optional<StoredTensor> base;
  Ack ack = Ack::kSync;
  std::optional<uint64_t> expect_revision;  // of the key now; 0: it must not exist
  std::optional<milliseconds> deadline;
};
struct PutResult {
  Receipt receipt;
  StoredTensor tensor;
};

struct ReadOptions {
  std::optional<DType> as;  // f32, f16 or bf16; default: the dtype that was written
  ReadLevel read = ReadLevel::kLinearizable;
  // A tensor that lost whole slices to pruning comes without them, in its small_shape(), and ranges
  // and rows are those of the small tensor. Default: in its own shape, with zeros in their place.
  bool small = false;
  std::optional<milliseconds> deadline;
};

struct StoredKey {
  std::string key;
  uint64_t revision = 0;  // the log index that wrote it
  StoredTensor tensor;
};
struct KeySummary {
  std::string key;
  uint64_t revision = 0;
  DType dtype = DType::kF32;
  std::vector<uint64_t> shape;
  CodecSpec codec;
  std::optional<PruneSpec> prune;
  uint64_t encoded_bytes = 0;
  bool known = true;  // false: its dtype, codec or pruning is one that this version does not know
};
struct ModelSummary {
  std::string model;
  uint64_t latest_version = 0;
  uint64_t live_versions = 0;
};

// Chooses how a tensor is stored.
using EncodingPolicy = std::function<Encoding(const TensorSource&)>;
// Matrices (rank >= 2) of a float dtype get `matrices`, and are pruned if it says so; other float
// tensors get f16, or stay as they are if that is smaller or the same; everything else is stored
// raw. A tensor whose values do not fit f16 is the caller's to notice: see publish().
EncodingPolicy default_policy(Encoding matrices);
// Every float tensor gets `codec`, and `prune` if it is a matrix; everything else is stored raw.
EncodingPolicy uniform_policy(CodecSpec codec, std::optional<PruneSpec> prune = std::nullopt);

struct VersionInfo {
  std::string model;
  uint64_t version = 0;
  uint64_t revision = 0;
  uint64_t parent_version = 0;
  uint64_t created_ms = 0;  // since 1970, by the primary's clock
  Digest manifest;          // identifies the whole content
  std::map<std::string, std::string> metadata;
  uint64_t values = 0;
  uint64_t source_bytes = 0;
  uint64_t encoded_bytes = 0;
  quant::ErrorSums error;             // over the tensors that lost something
  std::vector<StoredTensor> tensors;  // by (section, name)
};

struct PublishOptions {
  EncodingPolicy policy;  // default: every tensor exactly
  // Tensors that get codec lossless and have a counterpart here, of the same section and name, are
  // stored as differences to it under the conditions of PutOptions::base, and whole otherwise.
  std::optional<VersionInfo> base;
  std::map<std::string, std::string> metadata;
  uint64_t parent_version = 0;
  Ack ack = Ack::kSync;
  std::optional<uint64_t> expect_latest;  // the model's latest version now; 0: no such model
  std::optional<milliseconds> deadline;  // default: none but the attempts', while there is progress
  Progress progress;
};
struct PublishResult {
  Receipt receipt;
  VersionInfo version;
  uint64_t uploaded_bytes = 0;  // encoded bytes that the cluster lacked
};

struct AliasSummary {
  std::string alias;
  uint64_t version = 0;
  std::vector<uint64_t> history;  // oldest first; the last is `version`
};

struct Member {
  uint64_t id = 0;
  std::string name;
  std::string address;
  bool learner = false;  // has no vote
};
struct PeerStatus {
  uint64_t id = 0;
  uint64_t match = 0;
  uint64_t lag_bytes = 0;
  bool active = false;
};
// What a node has found of what rots on its disk, since it started, and what it brings from others.
struct Upkeep {
  uint64_t scrub_passes = 0;  // over all that it stores
  uint64_t scrubbed_blocks = 0;
  uint64_t scrubbed_bytes = 0;
  uint64_t damaged_found = 0;  // blocks
  uint64_t repaired = 0;       // of them, from other nodes
  uint64_t waiting = 0;        // blocks that are damaged now, as far as it knows
  // The snapshot that it fetches, since its log does not reach back to where others' end.
  uint64_t fetch_index = 0;        // what it shows; 0: none is being fetched
  uint64_t fetch_block_bytes = 0;  // of all its blocks; some need not come
  uint64_t fetched_bytes = 0;      // of those that came, by now
};

struct NodeStatus {
  Member member;
  std::optional<Error> error;  // set if the node does not answer; then the rest is empty
  std::string node_uuid;
  std::string role;  // "leader", "follower", "candidate"
  uint64_t term = 0;
  uint64_t leader = 0;
  uint64_t commit_index = 0;
  uint64_t applied_index = 0;
  uint64_t last_index = 0;
  uint64_t exposure_bytes = 0;
  uint64_t disk_bytes_free = 0;
  uint64_t disk_bytes_total = 0;
  bool full = false;  // its disk has no space for more writes
  uint64_t log_bytes = 0;
  uint64_t uptime_ms = 0;
  uint64_t leader_since_ms = 0;
  uint64_t blocks = 0;
  uint64_t block_bytes = 0;
  uint64_t last_append_us = 0;
  uint64_t read_probes = 0;       // how often it asked a quorum for a read's index, and
  uint64_t bounded_reads = 0;     // how many bounded reads it answered, since it started
  std::vector<PeerStatus> peers;  // at the leader
  std::string version;            // of ballastd
  bool drained = false;           // does not take leadership
  // Its rows were damaged: it answers no reads until those of another node are there.
  bool rows_lost = false;
  Upkeep upkeep;
};
struct ClusterStatus {
  std::string cluster_uuid;
  std::vector<NodeStatus> nodes;  // one for each member, by id

  const NodeStatus* leader() const;  // null: none; of several that say so, the highest term's
  size_t reachable() const;
};

// ---- members (docs/membership.md) ----

struct MemberInfo {
  Member member;
  std::string disk;    // its uuid; empty: not known yet
  std::string role;    // "voter", "learner", "joining", "leaving"
  uint64_t match = 0;  // the last index known to be durable there
  uint64_t lag_bytes = 0;
  bool active = false;  // the primary has heard from it within an election timeout
  bool drained = false;
};
// A disk that asks to be let in.
struct WaitingDisk {
  Member member;
  std::string disk;
  uint64_t seconds = 0;  // since it asked last
};
struct Membership {
  uint64_t configuration_index = 0;  // of the log entry that says so; 0: the founders
  bool settled = false;              // committed, and no change is under way
  uint64_t leader = 0;
  std::vector<MemberInfo> members;  // by id
  std::vector<WaitingDisk> waiting;
};
struct MemberChange {
  enum class Action { kAdd, kPromote, kRemove, kReplace };
  Action action = Action::kAdd;
  std::string name;
  std::string address;                      // of kAdd; of kReplace if it is not to be guessed
  bool learner = false;                     // of kReplace: it gets no vote
  uint64_t expect_configuration_index = 0;  // else kConflict; 0: any
  bool dry_run = false;
};
struct MemberStep {
  uint64_t configuration_index = 0;
  bool done = false;
  std::vector<std::string> steps;  // what is left, or would be done
  std::string waiting;             // not empty: why the next step has not been taken yet
};

struct VerifyReport {
  Member member;
  std::optional<Error> error;
  uint64_t blocks = 0;
  uint64_t bytes = 0;
  std::vector<Digest> damaged;   // when they were read
  std::vector<Digest> repaired;  // of these, by now
  uint64_t applied_index = 0;
  Digest state;  // equal on nodes whose applied_index is equal
};

// What a node holds and nobody needs any more (docs/garbage.md).
struct GarbageReport {
  Member member;
  std::optional<Error> error;  // set if the node does not answer; then the rest is empty
  // Blocks that no commit names, and those of them whose lease is over.
  uint64_t blocks = 0;
  uint64_t bytes = 0;
  uint64_t due_blocks = 0;
  uint64_t due_bytes = 0;
  uint64_t due_sessions = 0;
  std::optional<milliseconds> next_lease;  // until the first of the other leases is over
  std::optional<milliseconds> last_lease;  // likewise the last
  // The log's files, the blocks that lie in them, and the files that wait to be written over.
  uint64_t log_bytes = 0;
  uint64_t live_bytes = 0;
  uint64_t spare_bytes = 0;
  // Segments that the log has forgotten and that hold no block.
  uint64_t empty_segments = 0;
  uint64_t empty_bytes = 0;
  // Those that are less than half live, and the bytes of the blocks that would move out of them.
  uint64_t sparse_segments = 0;
  uint64_t sparse_bytes = 0;
  uint64_t moving_bytes = 0;

  // Something would be let go of now.
  bool due() const { return due_blocks + due_sessions + empty_segments + sparse_segments > 0; }
};
struct Collected {
  uint64_t expired = 0;  // blocks and sessions together
  // What is left; with the error of a node that let go of nothing.
  std::vector<GarbageReport> nodes;
};

class Client {
 public:
  // Connects to the first endpoint that answers. Errors: kInvalidArgument (an endpoint that is not
  // HOST:PORT), kUnavailable (nobody answers within the deadline).
  static Result<Client> connect(Options options);
  ~Client();
  Client(Client&&) noexcept;
  Client& operator=(Client&&) noexcept;

  // ---- keys ----
  Result<PutResult> put(const std::string& key, const TensorView& tensor,
                        const PutOptions& options);
  // Errors: kNotFound; kCorrupt if no replica has a block that matches its digest.
  Result<Tensor> get(const std::string& key, const ReadOptions& options);
  Result<StoredKey> stat(const std::string& key, const ReadOptions& options);
  Result<Receipt> remove(const std::string& key, Ack ack = Ack::kSync);
  // All keys with the prefix, page by page, in byte order.
  Status list(const std::string& prefix, ReadLevel read,
              const std::function<Status(const KeySummary&)>& each);

  // ---- models ----
  // Uploads what the cluster lacks and commits the version as a whole: before the reply nobody sees
  // any of it. Survives a failover: it goes on as long as something moves at least once in
  // Options::deadline. Errors: kConflict (expect_latest), kInvalidArgument (two tensors of one
  // section and name, a name that is not allowed, and, before anything is read or uploaded, a
  // tensor that can't be stored as the policy says), the source's own.
  Result<PublishResult> publish(const std::string& model, const std::vector<TensorSource>& tensors,
                                const PublishOptions& options);
  // The manifest of MODEL, MODEL@3 or MODEL@alias.
  Result<VersionInfo> version(const Reference& reference, ReadLevel read);
  Result<Receipt> remove_version(const std::string& model, uint64_t version, Ack ack = Ack::kSync);
  Status list_models(const std::string& prefix, ReadLevel read,
                     const std::function<Status(const ModelSummary&)>& each);

  // Sets MODEL@alias; `expect` is the version that it must name now (0: none). Errors: kConflict.
  Result<Receipt> set_alias(const std::string& model, const std::string& alias, uint64_t version,
                            std::optional<uint64_t> expect);
  // Back to the version before; returns it.
  Result<uint64_t> rollback_alias(const std::string& model, const std::string& alias);
  Result<std::vector<AliasSummary>> aliases(const std::string& model, ReadLevel read);

  // ---- tensors ----
  // Is given values or blocks, in order and piece by piece, on the calling thread. An error of its
  // own ends the read, which returns it.
  using Sink = std::function<Status(std::span<const std::byte>)>;

  // Fetches the blocks from all replicas in turn, verifies and decodes them, and gives the values
  // to `sink` in order, piece by piece. What is read is what `tensor` names, whatever has been
  // written or deleted since; error kNotFound if it is deleted and its blocks are reclaimed.
  Status read(const StoredTensor& tensor, const ReadOptions& options, const Sink& sink);
  // The same for a part of the values; only the blocks and, in them, the chunks that it touches are
  // fetched and decoded. For many parts of many tensors ask once for the version (or stat()), and
  // once for each tensor with_blocks(): then a read asks for nothing but the blocks it needs.
  // Errors: also kInvalidArgument for values that the tensor does not have.
  Status read_range(const StoredTensor& tensor, ValueRange range, const ReadOptions& options,
                    const Sink& sink);
  // The rows [first, end), in memory. Errors: also those of StoredTensor::rows().
  Result<Tensor> read_rows(const StoredTensor& tensor, uint64_t first, uint64_t end,
                           const ReadOptions& options);
  // Fetches the list of a tensor's blocks if that is a block of its own; after this block_list is
  // not set.
  Result<StoredTensor> with_blocks(StoredTensor tensor);
  // Gives the blocks to `sink` as they are stored, each verified by its digest, in order. Each says
  // itself what it holds and how long it is (docs/formats/block.md).
  Status read_blocks(const StoredTensor& tensor, const Sink& sink);

  // ---- the cluster ----
  // Waits until an earlier write has reached `level`.
  Result<Receipt> wait(const Receipt& receipt, Ack level,
                       std::optional<milliseconds> deadline = std::nullopt);
  // Asks every member; a member that does not answer has its error in the list.
  Result<ClusterStatus> status();
  // Hands leadership to a member by name; empty: the one that is furthest. Returns the new leader.
  Result<Member> transfer_leadership(const std::string& to);
  // The members as the primary sees them.
  Result<Membership> membership();
  // Takes one step of a change; ask again until it is done. Errors, with what to do: kRefused,
  // kNotFound, kConflict, kInvalidArgument; others as writes.
  Result<MemberStep> change_members(const MemberChange& change);
  // The node hands leadership over if it has it, and does not take it until `undo` or its restart.
  // Returns who leads. Errors: kUnavailable if nobody can take over; kInvalidArgument (no member).
  Result<Member> drain(const std::string& node, bool undo);
  // Every node reports the digest of its rows; with `deep` it also reads all its blocks and
  // compares their SHA-256.
  Result<std::vector<VerifyReport>> verify(bool deep);
  // Every node reports what it could let go of. Nothing changes.
  Result<std::vector<GarbageReport>> garbage();
  // Lets all nodes do now what they do by themselves in the course of writes: what is due expires,
  // log segments go that hold little. No lease gets shorter. Errors: those of a commit.
  Result<Collected> collect_garbage();
  // As this client knows them now: it learns of changes from the nodes' answers.
  std::vector<Member> members() const;

 private:
  struct Impl;
  explicit Client(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace ballast::client
