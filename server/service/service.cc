#include "server/service/service.h"

#include <algorithm>

#include "proto/base/crc32c.h"
#include "proto/base/digest.h"
#include "proto/base/limits.h"
#include "proto/base/names.h"
#include "proto/net/worker.h"
#include "proto/wire/frame.h"
#include "server/transport/peer_transport.h"
#include "server/version.h"
#include "storage/io/space.h"
#include "storage/snapshot/snapshot_rows.h"

namespace ballast::server {
namespace {

using std::chrono::milliseconds;

constexpr size_t kAddressBytesMax = 300;
constexpr size_t kSnapshotPageBytes = limits::kMiB;
constexpr milliseconds kVerifyBudget{500};  // of one request on a worker
constexpr milliseconds kReplyMargin{1000};  // before the deadline, for an answer to arrive in time

uint64_t ms_since(Clock::time_point then) {
  return static_cast<uint64_t>(
      std::chrono::duration_cast<milliseconds>(Clock::now() - then).count());
}

Clock::time_point deadline_of(const pb::Request& request) {
  constexpr auto kMax = std::chrono::duration_cast<milliseconds>(limits::kRequestDeadlineMax);
  const milliseconds asked(request.deadline_ms());
  return Clock::now() + std::clamp(asked, milliseconds(1), kMax);
}

Result<std::chrono::microseconds> bound_of(const pb::Request& request) {
  using std::chrono::microseconds;
  constexpr auto kMin = static_cast<uint64_t>(microseconds(limits::kStalenessMin).count());
  constexpr auto kMax = static_cast<uint64_t>(microseconds(limits::kStalenessMax).count());
  const uint64_t asked = request.max_staleness_us();
  if (asked < kMin || asked > kMax)
    return fail(Errc::kInvalidArgument, "a read's bound of {} us; it must be {} to {}", asked, kMin,
                kMax);
  return microseconds(asked);
}

// Checks what apply() would find out too late: an entry that it can't take would be refused on
// every replica, and one that is too big can't be sent.
Status check_header(size_t bytes) {
  if (bytes <= limits::kEntryHeaderBytesMax) return {};
  return fail(Errc::kInvalidArgument, "a commit of {} bytes; the limit is {}: split it", bytes,
              limits::kEntryHeaderBytesMax);
}

// Such a commit is small, and is how space comes back.
bool only_deletes(const pb::Commit& commit) {
  return std::ranges::all_of(commit.operations(), [](const pb::Operation& operation) {
    return operation.has_delete_key() || operation.has_delete_prefix() ||
           operation.has_delete_version() || operation.has_expire();
  });
}

// A peer's words about itself may enter the log.
Status check_peer(const pb::Hello& hello) {
  if (hello.from() == 0 || hello.from_disk().size() != 16)
    return fail(Errc::kInvalidArgument, "a peer's greeting lacks its id or its disk");
  BALLAST_TRY_STATUS(check_node_name(hello.from_name()));
  const auto address = net::parse_endpoint(hello.from_address());
  if (!address || hello.from_address().size() > kAddressBytesMax)
    return fail(Errc::kInvalidArgument, "a peer's greeting names no address");
  return {};
}

}  // namespace

Service::Service(Node& node, const ClusterConfig& cluster, storage::Identity identity,
                 std::string data_directory, net::Workers workers, milliseconds upload_lease)
    : node_(node),
      members_(node, cluster),
      cluster_(cluster),
      identity_(identity),
      data_directory_(std::move(data_directory)),
      workers_(std::move(workers)),
      upload_lease_(upload_lease) {}

pb::Failure Service::failure(const Error& error) const {
  pb::Failure failure;
  failure.set_code(static_cast<uint32_t>(error.code));
  failure.set_message(shortened(error.message));
  failure.set_leader(node_.core().leader().value());
  return failure;
}

pb::HelloReply Service::greet(const pb::Hello& hello) {
  pb::HelloReply reply;
  reply.set_protocol(wire::kProtocolVersion);
  reply.set_cluster(cluster_.id.raw());
  reply.set_id(cluster_.self.value());
  reply.set_leader(node_.core().leader().value());
  for (pb::Member& member : members_.members()) *reply.add_members() = std::move(member);
  reply.set_disk(node_.own_disk().uuid);
  reply.set_joined(node_.own_disk().joined);
  reply.set_name(cluster_.find(cluster_.self)->name);
  reply.set_configuration_index(node_.membership().newest_index().value());
  const auto refuse = [&](std::string message) {
    *reply.mutable_failure() = failure({Errc::kRefused, std::move(message)});
    return reply;
  };
  const bool peer = hello.kind() != pb::CONNECTION_CLIENT;
  if (hello.protocol() != wire::kProtocolVersion)
    return refuse(fmt::format("this node speaks protocol {}, not {}", wire::kProtocolVersion,
                              hello.protocol()));
  if ((peer || !hello.cluster().empty()) && hello.cluster() != cluster_.id.raw())
    return refuse(fmt::format("this node belongs to cluster {}, not to the one that was asked for",
                              cluster_.id.to_string()));
  if (peer && NodeId(hello.to()) != cluster_.self)
    return refuse(fmt::format("this is member {}, not {}: compare the members' addresses",
                              cluster_.self, hello.to()));
  if (peer && NodeId(hello.from()) == cluster_.self)
    return refuse(fmt::format("node {} can't be its own peer", hello.from()));
  if (!peer) return reply;
  if (const Status status = check_peer(hello); !status) return refuse(status.error().message);
  const auto trust = node_.trust(PeerTransport::greeting_of(hello));
  return trust ? reply : refuse(members_.refuse(hello, trust.error()));
}

asio::awaitable<Answer> Service::handle(pb::Request request, Bytes payload, uint32_t payload_crc) {
  Result<Answer> answer =
      co_await dispatch(request, std::move(payload), payload_crc, deadline_of(request));
  if (!answer) {
    Answer refusal;
    *refusal.reply.mutable_failure() = failure(answer.error());
    answer = std::move(refusal);
  }
  answer->reply.set_configuration_index(node_.membership().newest_index().value());
  co_return *std::move(answer);
}

asio::awaitable<Result<Answer>> Service::dispatch(const pb::Request& request, Bytes payload,
                                                  uint32_t payload_crc, Deadline deadline) {
  using Kind = pb::Request::KindCase;
  switch (request.kind_case()) {
    case Kind::kStageBlock:
      co_return co_await stage_block(request, std::move(payload), payload_crc, deadline);
    case Kind::kCommit:
      co_return co_await commit(request, std::move(payload), payload_crc, deadline);
    case Kind::kWait: co_return co_await wait(request, deadline);
    case Kind::kGetKey:
    case Kind::kGetVersion:
    case Kind::kListKeys:
    case Kind::kListModels:
    case Kind::kListAliases: co_return co_await dispatch_read(request, deadline);
    default: co_return co_await dispatch_admin(request, deadline);
  }
}

// ---- writes -----------------------------------------------------------------------------------

asio::awaitable<Result<Node::Draft>> Service::block_draft(pb::BlockRef reference, Bytes payload,
                                                          uint32_t payload_crc) {
  if (payload.empty() || payload.size() > limits::kBlockBytesMax)
    co_return fail(Errc::kInvalidArgument, "a block of {} bytes; it must have 1 to {}",
                   payload.size(), limits::kBlockBytesMax);
  if (reference.length() != payload.size() || reference.crc32c() != payload_crc)
    co_return fail(Errc::kInvalidArgument,
                   "the block's length or CRC32C is not what its reference says");
  BALLAST_CO_TRY(const Digest digest, Digest::from_raw(reference.digest()));
  // Blocks are shared by their digest: a wrong one would spoil somebody else's tensor.
  const Digest actual =
      co_await net::on_worker(workers_.urgent, [&] { return sha256(payload.span()); });
  if (actual != digest)
    co_return fail(Errc::kInvalidArgument,
                   "the block's SHA-256 is {}, not {} as its reference says", actual.brief(),
                   digest.brief());
  pb::BlockEntry entry;
  // Field by field: whatever else the client's message carries stays out of the log.
  entry.mutable_block()->set_digest(std::string(digest.text()));
  entry.mutable_block()->set_length(static_cast<uint32_t>(payload.size()));
  entry.mutable_block()->set_crc32c(payload_crc);
  entry.set_time_ms(wall_clock_ms());
  entry.set_lease_ms(static_cast<uint64_t>(upload_lease_.count()));
  co_return Node::Draft{.kind = EntryKind::kBlock,
                        .header = Bytes::copy_of(entry.SerializeAsString()),
                        .payload = std::move(payload)};
}

asio::awaitable<Result<Answer>> Service::write(std::vector<Node::Draft> drafts, pb::AckLevel ack,
                                               Deadline deadline) {
  for (const Node::Draft& draft : drafts) BALLAST_CO_TRY_STATUS(check_header(draft.header.size()));
  BALLAST_CO_TRY(const Node::Written written,
                 co_await node_.write(std::move(drafts), ack, deadline));
  Answer answer;
  pb::WriteReply& reply = *answer.reply.mutable_write();
  *reply.mutable_token() = written.token;
  reply.set_asked(ack);
  reply.set_reached(written.reached);
  *reply.mutable_result() = written.result;
  co_return answer;
}

asio::awaitable<Result<Answer>> Service::stage_block(const pb::Request& request, Bytes payload,
                                                     uint32_t payload_crc, Deadline deadline) {
  std::vector<Node::Draft> drafts(1);
  BALLAST_CO_TRY(drafts[0], co_await block_draft(request.stage_block().block(), std::move(payload),
                                                 payload_crc));
  co_return co_await write(std::move(drafts), request.ack(), deadline);
}

asio::awaitable<Result<Answer>> Service::commit(const pb::Request& request, Bytes payload,
                                                uint32_t payload_crc, Deadline deadline) {
  const pb::Commit& commit = request.commit();
  if (commit.operations().empty())
    co_return fail(Errc::kInvalidArgument, "a commit without operations");
  if (!commit.session().empty() && commit.session().size() != 16)
    co_return fail(Errc::kInvalidArgument, "a session has 16 bytes, this has {}",
                   commit.session().size());
  pb::CommitEntry entry;
  entry.set_session(commit.session());
  entry.set_sequence(commit.sequence());
  entry.set_time_ms(wall_clock_ms());
  *entry.mutable_preconditions() = commit.preconditions();
  *entry.mutable_operations() = commit.operations();

  std::vector<Node::Draft> drafts;
  if (commit.has_block()) {
    BALLAST_CO_TRY(Node::Draft block,
                   co_await block_draft(commit.block(), std::move(payload), payload_crc));
    drafts.push_back(std::move(block));
  } else if (!payload.empty()) {
    co_return fail(Errc::kInvalidArgument, "a commit with a payload must say which block it is");
  }
  Node::Draft draft{.kind = EntryKind::kCommit,
                    .header = Bytes::copy_of(entry.SerializeAsString()),
                    .payload = {},
                    .frees = !commit.has_block() && only_deletes(commit)};
  drafts.push_back(std::move(draft));
  co_return co_await write(std::move(drafts), request.ack(), deadline);
}

asio::awaitable<Result<Answer>> Service::wait(const pb::Request& request, Deadline deadline) {
  const pb::Token& token = request.wait().token();
  Answer answer;
  pb::WriteReply& reply = *answer.reply.mutable_write();
  BALLAST_CO_TRY(const pb::AckLevel reached, co_await node_.wait(token, request.ack(), deadline));
  *reply.mutable_token() = token;
  reply.set_asked(request.ack());
  reply.set_reached(reached);
  co_return answer;
}

// ---- reads --------------------------------------------------------------------------------------

Status Service::check_rows() const {
  if (!node_.rows_lost()) return {};
  return fail(Errc::kUnavailable,
              "this node's rows were damaged, and those of another are being brought: ask others");
}

asio::awaitable<Status> Service::reach_level(const pb::Request& request, Deadline deadline) {
  BALLAST_CO_TRY_STATUS(check_rows());
  switch (request.read()) {
    case pb::READ_LINEARIZABLE: co_return co_await node_.linearize(deadline);
    case pb::READ_ANY: co_return Status{};
    case pb::READ_BOUNDED: {
      BALLAST_CO_TRY(const auto bound, bound_of(request));
      co_return co_await node_.freshen(bound, deadline);
    }
    // Who asks for more than this version knows must not get less.
    default: co_return fail(Errc::kInvalidArgument, "a read level that this version does not know");
  }
}

asio::awaitable<Result<Answer>> Service::dispatch_read(const pb::Request& request,
                                                       Deadline deadline) {
  BALLAST_CO_TRY_STATUS(co_await reach_level(request, deadline));
  const storage::StateMachine& state = node_.state();
  const auto read = [&]() -> Result<Answer> {
    Answer answer;
    switch (request.kind_case()) {
      case pb::Request::kGetKey: {
        BALLAST_TRY(*answer.reply.mutable_get_key()->mutable_row(),
                    state.key(request.get_key().key()));
        break;
      }
      case pb::Request::kGetVersion: {
        BALLAST_TRY(*answer.reply.mutable_get_version(), state.version(request.get_version()));
        break;
      }
      case pb::Request::kListKeys: {
        BALLAST_TRY(*answer.reply.mutable_list_keys(), state.list_keys(request.list_keys()));
        break;
      }
      case pb::Request::kListModels: {
        BALLAST_TRY(*answer.reply.mutable_list_models(), state.list_models(request.list_models()));
        break;
      }
      default: {
        BALLAST_TRY(*answer.reply.mutable_list_aliases(),
                    state.list_aliases(request.list_aliases()));
        break;
      }
    }
    return answer;
  };
  Result<Answer> answer = co_await net::on_worker(workers_.urgent, read);
  if (!answer && answer.error().code == Errc::kCorrupt && keepers_.scrub != nullptr)
    keepers_.scrub->hurry();
  co_return answer;
}

asio::awaitable<Result<Answer>> Service::get_block(const pb::GetBlock& request) {
  BALLAST_CO_TRY_STATUS(check_rows());
  BALLAST_CO_TRY(const Digest digest, Digest::from_raw(request.digest()));
  // Before the look-up, so that what it does not find was deleted by what is applied.
  const uint64_t applied = node_.state().applied().index.value();
  const auto from = request.once() ? storage::ReadFrom::kDisk : storage::ReadFrom::kCache;
  const auto& workers = request.once() ? workers_.background : workers_.urgent;
  auto block = co_await net::on_worker(workers, [&] { return node_.state().block(digest, from); });
  if (!block && block.error().code == Errc::kNotFound && applied < request.applied())
    co_return fail(Errc::kUnavailable, "{}, but only {} entries are applied here",
                   block.error().message, applied);
  if (!block) co_return std::unexpected(std::move(block).error());
  if (request.once()) co_await node_.give_way(block->bytes.size());
  Answer answer;
  answer.payload_crc = block->reference.crc32c();
  answer.payload = std::move(block->bytes);
  *answer.reply.mutable_get_block() = std::move(block->reference);
  co_return answer;
}

asio::awaitable<Result<Answer>> Service::missing_blocks(const pb::MissingBlocks& request) {
  if (request.digests_size() > static_cast<int>(limits::kDigestsPerQueryMax))
    co_return fail(Errc::kInvalidArgument, "{} digests in one query; the limit is {}",
                   request.digests_size(), limits::kDigestsPerQueryMax);
  std::vector<Digest> digests;
  for (const std::string& raw : request.digests()) {
    BALLAST_CO_TRY(const Digest digest, Digest::from_raw(raw));
    digests.push_back(digest);
  }
  BALLAST_CO_TRY(const std::vector<Digest> missing, co_await net::on_worker(workers_.urgent, [&] {
                   return node_.state().missing(digests);
                 }));
  Answer answer;
  auto& reply = *answer.reply.mutable_missing_blocks();
  for (const Digest& digest : missing) reply.add_digests(std::string(digest.text()));
  co_return answer;
}

// ---- the cluster --------------------------------------------------------------------------------

asio::awaitable<Result<Answer>> Service::dispatch_admin(const pb::Request& request,
                                                        Deadline deadline) {
  using Kind = pb::Request::KindCase;
  Answer answer;
  switch (request.kind_case()) {
    case Kind::kGetBlock: co_return co_await get_block(request.get_block());
    case Kind::kMissingBlocks: co_return co_await missing_blocks(request.missing_blocks());
    case Kind::kGetStatus: *answer.reply.mutable_status() = status(); co_return answer;
    case Kind::kPing: answer.reply.mutable_ping(); co_return answer;
    case Kind::kTransferLeader: co_return co_await transfer(request.transfer_leader(), deadline);
    case Kind::kListMembers:
      if (request.read() != pb::READ_ANY && node_.core().role() != raft::Role::kLeader)
        co_return fail(Errc::kNotLeader, "only the primary knows how far the members are");
      *answer.reply.mutable_list_members() = members_.list();
      co_return answer;
    case Kind::kChangeMembers: {
      BALLAST_CO_TRY(*answer.reply.mutable_change_members(),
                     co_await members_.change(request.change_members(), deadline));
      co_return answer;
    }
    case Kind::kDrain: co_return co_await drain(request.drain(), deadline);
    case Kind::kOpenSnapshot: co_return open_snapshot(request.open_snapshot());
    case Kind::kReadSnapshot: co_return co_await read_snapshot(request.read_snapshot());
    case Kind::kVerifyBlocks: co_return co_await verify_blocks(request.verify_blocks(), deadline);
    case Kind::kGarbage: co_return co_await garbage(request.garbage());
    case Kind::kCollectGarbage: co_return co_await collect_garbage(request, deadline);
    case Kind::kStateDigest: {
      BALLAST_CO_TRY_STATUS(check_rows());
      // What RocksDB has in memory may be whole, and its files damaged.
      using Found = Result<pb::StateDigestReply>;
      BALLAST_CO_TRY(*answer.reply.mutable_state_digest(),
                     co_await net::on_worker(workers_.background, [&]() -> Found {
                       BALLAST_TRY_STATUS(node_.state().verify_rows());
                       return node_.state().state_digest();
                     }));
      co_return answer;
    }
    default:
      co_return fail(Errc::kInvalidArgument, "a request of a kind that this version does not know");
  }
}

asio::awaitable<Result<Answer>> Service::transfer(const pb::TransferLeader& request,
                                                  Deadline deadline) {
  BALLAST_CO_TRY(const NodeId leader,
                 co_await node_.transfer_leadership(NodeId(request.to()), deadline));
  Answer answer;
  answer.reply.mutable_transfer_leader()->set_leader(leader.value());
  co_return answer;
}

asio::awaitable<Result<Answer>> Service::drain(const pb::Drain& request, Deadline deadline) {
  if (request.undo())
    node_.undrain();
  else
    BALLAST_CO_TRY_STATUS(co_await node_.drain(deadline));
  Answer answer;
  answer.reply.mutable_drain()->set_leader(node_.core().leader().value());
  co_return answer;
}

Result<Answer> Service::open_snapshot(const pb::OpenSnapshot& request) {
  Answer answer;
  pb::OpenSnapshotReply& reply = *answer.reply.mutable_open_snapshot();
  if (request.has() != 0 && node_.log_goes_on_from(Index(request.has()))) {
    reply.set_log_goes_on(true);
    return answer;
  }
  BALLAST_TRY(reply, snapshots_.open(node_.state(), Index(request.index())));
  const Index at(reply.index());
  if (at < node_.core().base().index)
    return fail(Errc::kUnavailable, "this node has forgotten its log up to entry {}: ask again",
                at);
  reply.set_chain(node_.core().chain_at(at));
  return answer;
}

asio::awaitable<Result<Answer>> Service::read_snapshot(const pb::ReadSnapshot& request) {
  BALLAST_CO_TRY(const auto rows, snapshots_.find(request.id()));
  BALLAST_CO_TRY(const storage::SnapshotPage page,
                 co_await net::on_worker(workers_.background, [&] {
                   return storage::snapshot_page(*rows, request.after(), kSnapshotPageBytes);
                 }));
  if (page.last) snapshots_.close(request.id());
  Answer answer;
  answer.reply.mutable_read_snapshot()->set_last(page.last);
  answer.payload = Bytes::copy_of(page.rows.SerializeAsString());
  co_return answer;
}

// What it finds damaged is repaired meanwhile, as far as that is done in time.
asio::awaitable<Result<Answer>> Service::verify_blocks(const pb::VerifyBlocks& request,
                                                       Deadline deadline) {
  BALLAST_CO_TRY_STATUS(check_rows());
  std::optional<Digest> after;
  if (!request.after().empty()) {
    BALLAST_CO_TRY(after, Digest::from_raw(request.after()));
  }
  Answer answer;
  pb::VerifyBlocksReply& reply = *answer.reply.mutable_verify_blocks();
  BALLAST_CO_TRY(reply, co_await net::on_worker(workers_.background, [&] {
                   return node_.state().verify_blocks(after, {kVerifyBudget});
                 }));
  for (const std::string& raw : reply.damaged()) {
    if (keepers_.repairs == nullptr) break;
    BALLAST_CO_TRY(const Digest digest, Digest::from_raw(raw));
    if (co_await keepers_.repairs->wait(digest, deadline - kReplyMargin)) reply.add_repaired(raw);
  }
  co_return answer;
}

void Service::add_upkeep(pb::StatusReply& status) const {
  status.set_rows_lost(node_.rows_lost());
  if (keepers_.repairs == nullptr) return;
  pb::Upkeep& upkeep = *status.mutable_upkeep();
  const BlockRepairs::Counters repairs = keepers_.repairs->counters();
  const Scrub::Counters& scrub = keepers_.scrub->counters();
  const SnapshotProgress& fetch = keepers_.fetch->progress();
  upkeep.set_scrub_passes(scrub.passes);
  upkeep.set_scrubbed_blocks(scrub.blocks);
  upkeep.set_scrubbed_bytes(scrub.bytes);
  upkeep.set_damaged_found(repairs.found);
  upkeep.set_repaired(repairs.repaired);
  upkeep.set_waiting(repairs.waiting);
  upkeep.set_fetch_index(fetch.index.value());
  upkeep.set_fetch_block_bytes(fetch.block_bytes);
  upkeep.set_fetched_bytes(fetch.came_bytes);
}

pb::StatusReply Service::status() const {
  const raft::View view = node_.core().view();
  const auto position = node_.state().applied();
  pb::StatusReply status;
  status.set_cluster(cluster_.id.raw());
  status.set_node(identity_.node.raw());
  status.set_id(cluster_.self.value());
  status.set_name(cluster_.find(cluster_.self)->name);
  status.set_role(std::string(raft::role_name(view.role)));
  status.set_term(view.term.value());
  status.set_leader(view.leader.value());
  status.set_commit_index(view.commit.value());
  status.set_applied_index(position.index.value());
  status.set_last_index(view.last.value());
  status.set_exposure_bytes(node_.exposure_bytes());
  if (const auto space = storage::space_of(data_directory_)) {
    status.set_disk_bytes_free(space->free);
    status.set_disk_bytes_total(space->total);
  }
  status.set_full(node_.full());
  status.set_log_bytes(node_.log().disk_bytes());
  status.set_last_append_us(node_.log().last_append_us());
  status.set_read_probes(node_.read_probes());
  status.set_bounded_reads(node_.bounded_reads());
  status.set_uptime_ms(ms_since(started_));
  status.set_leader_since_ms(ms_since(node_.leader_since()));
  status.set_blocks(position.blocks);
  status.set_block_bytes(position.block_bytes);
  status.set_version(kVersion);
  for (const raft::PeerView& peer : view.peers) {
    pb::PeerStatus& out = *status.add_peers();
    out.set_id(peer.id.value());
    out.set_match(peer.match.value());
    out.set_lag_bytes(node_.bytes_after(peer.match));
    out.set_active(peer.active);
  }
  for (pb::Member& member : members_.members()) *status.add_members() = std::move(member);
  status.set_drained(node_.drained());
  add_upkeep(status);
  return status;
}

}  // namespace ballast::server
