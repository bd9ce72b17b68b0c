#include "tests/unit/storage/damage_store.h"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <functional>
#include <sstream>

#include "proto/base/check.h"
#include "storage/identity.h"
#include "storage/snapshot/incoming.h"
#include "storage/snapshot/snapshot_rows.h"
#include "tests/unit/storage/log_testing.h"
#include "tests/unit/storage/state_testing.h"

namespace ballast::storage {
namespace {

constexpr uint64_t kSegmentBytes = 256 << 10;
constexpr unsigned kHangSeconds = 30;
const NodeId kNode{2};

Uuid cluster() { return *Uuid::parse("11111111-2222-4333-8444-555555555555"); }

Result<SegmentPtr> create(const std::string& directory, uint64_t sequence) {
  return create_segment(directory, sequence, kSegmentBytes, SegmentFill::kZeros,
                        [] { return true; });
}

// Small ones, made at once.
class SmallSegments final : public SegmentSupply {
 public:
  explicit SmallSegments(std::string directory) : directory_(std::move(directory)) {}
  void prepare(SegmentOrder order) override {
    auto made = order.spare ? recycle_segment(directory_, std::move(order.spare), order.sequence)
                            : create(directory_, order.sequence);
    BALLAST_CHECK(made, "{}", made.error().message);
    ready_ = *std::move(made);
  }
  SegmentPtr take() override { return std::exchange(ready_, nullptr); }
  void hurry() override {}

 private:
  const std::string directory_;
  SegmentPtr ready_;
};

Result<std::unique_ptr<LogStore>> open_small_log(const std::string& directory) {
  LogParts parts;
  parts.make_segment = [directory](uint64_t sequence) { return create(directory, sequence); };
  parts.supply = std::make_unique<SmallSegments>(directory);
  return open_segment_log(small_log(directory), std::move(parts));
}

Result<std::unique_ptr<StateMachine>> open_small_state(const std::string& directory,
                                                       const LogStore& log) {
  return StateMachine::open({.directory = directory,
                             .write_buffer_bytes = 1 << 20,
                             .block_cache_bytes = 1 << 20,
                             .info_log = nullptr},
                            log.payloads());
}

struct Node {
  DataDirectory directory;
  std::unique_ptr<LogStore> log;
  std::unique_ptr<StateMachine> state;
};

// As ballastd does, and then what it applies before it serves anything.
Result<Node> open_node(const std::string& path) {
  BALLAST_TRY(DataDirectory directory, DataDirectory::open(path, cluster(), kNode));
  BALLAST_TRY(auto log, open_small_log(directory.log_path()));
  BALLAST_TRY(auto state, open_small_state(directory.state_path(), *log));
  const Index applied = state->applied().index;
  if (applied > log->last())
    return fail(Errc::kCorrupt,
                "'{}' has applied entry {} but its log ends at {}: the log was lost"
                " or replaced; let the node join again as a new one",
                path, applied, log->last());
  if (applied < log->last()) {
    BALLAST_TRY(const auto read, log->prepare_read(applied + 1, log->last()));
    BALLAST_TRY(const auto heads, read->heads());
    BALLAST_TRY(const auto results, state->apply(heads));
  }
  return Node{std::move(directory), std::move(log), std::move(state)};
}

std::string fingerprint(std::span<const std::byte> bytes) { return sha256(bytes).hex(); }
std::string fingerprint(std::string_view text) { return fingerprint(as_byte_span(text)); }

class Reader {
 public:
  Reader(const Node& node, const SampleContent& content) : node_(node), content_(content) {}

  std::string lines() {
    const HardState voted = node_.log->hard_state();
    lines_ += fmt::format("T\tvote\t{} in term {}\n", voted.vote, voted.term);
    read_log();
    for (const std::string& key : content_.keys)
      note("key/" + key, node_.state->key(key),
           [](const pb::KeyRow& row) { return fingerprint(row.SerializeAsString()); });
    note("keys", node_.state->list_keys({}),
         [](const pb::ListKeysReply& reply) { return fingerprint(reply.SerializeAsString()); });
    for (const Digest& digest : content_.blocks)
      note("block/" + digest.hex(), node_.state->block(digest),
           [](const StateMachine::Block& b) { return fingerprint(b.bytes.span()); });
    note("rows", node_.state->state_digest(),
         [](const pb::StateDigestReply& reply) { return fingerprint(reply.SerializeAsString()); });
    read_verified();
    return std::move(lines_);
  }

 private:
  void read_log() {
    for (Index index(1); index <= node_.log->last(); ++index) {
      const auto read = node_.log->prepare_read(index, index);
      auto entries = read ? (*read)->entries() : std::unexpected(read.error());
      note(fmt::format("log/{}", index), entries, [](const std::vector<Entry>& one) {
        const EntryMeta meta = one.front().meta();
        return fmt::format("{}/{}/{} {} {}", meta.term, meta.index, static_cast<int>(meta.kind),
                           fingerprint(one.front().header.span()),
                           fingerprint(one.front().payload.span()));
      });
    }
  }
  void read_verified() {
    auto reply = node_.state->verify_blocks(std::nullopt, {std::chrono::minutes(1)});
    if (reply && reply->damaged_size() > 0) {
      lines_ += fmt::format("E\tverify\tcorrupt: {} blocks are damaged\n", reply->damaged_size());
      return;
    }
    note("verify", reply,
         [](const pb::VerifyBlocksReply& whole) { return fingerprint(whole.SerializeAsString()); });
  }
  template <class Value, class Print>
  void note(const std::string& name, const Result<Value>& value, const Print& print) {
    if (value) {
      lines_ += fmt::format("T\t{}\t{}\n", name, print(*value));
    } else if (value.error().code == Errc::kNotFound) {
      // Not damage that was noticed: the store says that it was never there.
      lines_ += fmt::format("T\t{}\t{}\n", name, kAbsent);
    } else {
      lines_ += fmt::format("E\t{}\t{}\n", name, value.error().to_string());
    }
  }

  const Node& node_;
  const SampleContent& content_;
  std::string lines_;
};

// Runs `work` in a process of its own, and returns what it returned; `died` says how it ended if
// not so.
std::string in_process(const std::function<std::string()>& work, std::string& died) {
  int pipe[2];
  BALLAST_CHECK(::pipe(pipe) == 0);
  const pid_t child = ::fork();
  BALLAST_CHECK(child >= 0);
  if (child == 0) {
    ::close(pipe[0]);
    ::alarm(kHangSeconds);
    std::FILE* out = ::fdopen(pipe[1], "w");
    const std::string text = work();
    const bool whole = std::fwrite(text.data(), 1, text.size(), out) == text.size();
    ::_exit(std::fclose(out) == 0 && whole ? 0 : 3);
  }
  ::close(pipe[1]);
  std::string text;
  char piece[16 << 10];
  for (ssize_t got; (got = ::read(pipe[0], piece, sizeof piece)) > 0;)
    text.append(piece, static_cast<size_t>(got));
  ::close(pipe[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) {
    died = fmt::format("it hung for {} s", kHangSeconds);
  } else if (WIFSIGNALED(status)) {
    died = fmt::format("it died of signal {}", WTERMSIG(status));
  } else if (WEXITSTATUS(status) != 0) {
    died = fmt::format("it ended with {}", WEXITSTATUS(status));
  }
  return text;
}

// Neither the log nor the state is closed: they stay as a kill leaves them.
void write_content(const std::string& directory, const SampleContent& content, size_t flush_every) {
  auto opened = open_node(directory);
  BALLAST_CHECK(opened, "{}", opened.error().message);
  const Node& node = *new Node(*std::move(opened));  // for as long as the process lives
  const auto append = [&](size_t first, size_t end, std::optional<HardState> hard_state) {
    append_and_wait(*node.log,
                    {content.entries.begin() + static_cast<ptrdiff_t>(first),
                     content.entries.begin() + static_cast<ptrdiff_t>(end)},
                    hard_state);
    const auto heads = (*node.log->prepare_read(Index(first + 1), Index(end)))->heads();
    BALLAST_CHECK(heads && node.state->apply(*heads));
  };
  // The last entry is a batch of its own: it alone is what a kill may leave in doubt.
  const size_t last = content.entries.size() - 1;
  for (size_t at = 0; at < last;) {
    const size_t end = std::min(last, at + std::min(flush_every, 1 + at % 5));
    append(at, end, at == 0 ? std::optional(HardState{Term(1), NodeId(1)}) : std::nullopt);
    if (at / flush_every != end / flush_every) BALLAST_CHECK(node.state->flush());
    at = end;
  }
  append(last, last + 1, std::nullopt);
}

// Every block in the database, the large ones in its blob files.
void move_all(const std::string& directory) {
  auto node = open_node(directory);
  BALLAST_CHECK(node, "{}", node.error().message);
  for (uint64_t segment = 1; segment <= node->log->last().value(); ++segment) {
    for (bool more = true; more;) {
      const auto moved = node->state->move_blocks(segment, 1 << 20);
      BALLAST_CHECK(moved, "{}", moved.error().message);
      more = *moved > 0;
    }
  }
  BALLAST_CHECK(node->state->flush());
}

IncomingOptions incoming_of(const std::string& directory) {
  return {.rows = {.directory = directory + "/state.incoming"},
          .blocks = {.directory = directory + "/log.incoming",
                     .log = directory + "/log",
                     .segment_bytes = kSegmentBytes}};
}

// The blocks that `incoming` lacks, but for each `but`-th; 0: all.
Status bring_blocks(IncomingSnapshot& incoming, const StateMachine& source, size_t but) {
  BALLAST_TRY(const auto missing, incoming.missing(nullptr, std::nullopt, 1000));
  const std::vector<pb::BlockRef>& blocks = missing.blocks;
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (but != 0 && i % but == 0) continue;
    BALLAST_TRY(const auto block, source.block(digest_of(blocks[i])));
    BALLAST_TRY_STATUS(incoming.add_block(blocks[i], block.bytes));
  }
  return {};
}

Status bring_rows(IncomingSnapshot& incoming, const StateMachine& source) {
  BALLAST_TRY(const SnapshotPage page, snapshot_page(*source.rows(), "", 1 << 20));
  BALLAST_CHECK(page.last, "more rows than a page holds");
  BALLAST_TRY_STATUS(incoming.begin());
  BALLAST_TRY_STATUS(incoming.add(page.rows));
  return incoming.drop_unnamed();
}

Status fetch_half(const std::string& directory) {
  BALLAST_TRY(const auto node, open_node(directory));
  BALLAST_TRY(const auto incoming, IncomingSnapshot::open(incoming_of(directory)));
  BALLAST_TRY_STATUS(bring_rows(*incoming, *node.state));
  BALLAST_TRY_STATUS(bring_blocks(*incoming, *node.state, 2));
  return incoming->flush();
}

// As a node that begins again.
Status fetch_rest(const Node& node, const std::string& directory) {
  BALLAST_TRY(const auto incoming, IncomingSnapshot::open(incoming_of(directory)));
  BALLAST_TRY_STATUS(bring_rows(*incoming, *node.state));
  BALLAST_TRY_STATUS(bring_blocks(*incoming, *node.state, 0));
  const auto applied = node.state->applied();
  return incoming->finish({applied.index, applied.term, 0});
}

// What is damaged is discarded, and all comes anew.
Result<Node> open_fetched(const std::string& directory) {
  BALLAST_TRY(Node node, open_node(directory));
  const IncomingOptions incoming = incoming_of(directory);
  Status fetched;
  if (const auto rows = look_at_rows(incoming.rows.directory); !rows)
    fetched = std::unexpected(rows.error());
  else
    fetched = fetch_rest(node, directory);
  if (!fetched && fetched.error().code == Errc::kCorrupt) {
    BALLAST_TRY_STATUS(IncomingSnapshot::discard(incoming));
    fetched = fetch_rest(node, directory);
  }
  BALLAST_TRY_STATUS(std::move(fetched));
  // As at a start: homes first, and then a log that knows them.
  node.state.reset();
  node.log.reset();
  BALLAST_TRY_STATUS(take_over_segments(incoming.blocks.directory, incoming.blocks.log));
  BALLAST_TRY(node.log, open_small_log(incoming.blocks.log));
  BALLAST_TRY(node.state, open_small_state(incoming.rows.directory, *node.log));
  return node;
}

Reading parse_reading(const std::string& text, std::string died) {
  Reading reading;
  reading.died = std::move(died);
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const size_t tab = line.find('\t', 2);
    const std::string name = line.substr(2, tab - 2), text_of = line.substr(tab + 1);
    if (line[0] == 'T') reading.things[name] = text_of;
    if (line[0] == 'E') reading.errors[name] = text_of;
    if (line[0] == 'R') reading.refused = text_of;
  }
  return reading;
}

Reading read_with(const std::function<Result<Node>()>& open, const SampleContent& content) {
  std::string died;
  const std::string text = in_process(
      [&]() -> std::string {
        auto node = open();
        return node ? Reader(*node, content).lines()
                    : fmt::format("R\topen\t{}\n", node.error().to_string());
      },
      died);
  return parse_reading(text, died);
}

}  // namespace

SampleContent sample_content(size_t entries) {
  SampleContent content;
  std::vector<pb::BlockRef> references;
  for (uint64_t index = 1; index <= entries; ++index) {
    // The last is a block, which no row but its own depends on.
    if (index % 2 == 0 && index != entries) {
      const std::string key = fmt::format("k{}", content.keys.size());
      content.entries.push_back(
          commit_entry(index, kHour + index, {put_key(key, tensor_of({references.back()}))}));
      content.keys.push_back(key);
      continue;
    }
    const size_t size = index % 9 == 0 ? 140'000 : 100 + index * 977 % 9000;
    const Bytes bytes = block_bytes(index, size);
    content.entries.push_back(block_entry(index, bytes, kHour + index, kHour));
    references.push_back(reference_of(bytes));
    content.blocks.push_back(digest_of(references.back()));
  }
  return content;
}

SampleStore make_sample(const std::string& directory, size_t entries, size_t flush_every) {
  SampleStore store;
  store.content = sample_content(entries);
  std::string died;
  in_process(
      [&] {
        const Status made = DataDirectory::bootstrap(directory, cluster(), kNode, {});
        BALLAST_CHECK(made, "{}", made.error().message);
        write_content(directory, store.content, flush_every);
        return "";
      },
      died);
  BALLAST_CHECK(died.empty(), "the sample can't be written: {}", died);
  store.killed = read_image(directory);
  const Reading closing = read_store(directory, store.content);
  BALLAST_CHECK(closing.refused.empty() && closing.died.empty(), "{}{}", closing.refused,
                closing.died);
  store.closed = read_image(directory);
  in_process(
      [&] {
        move_all(directory);
        return "";
      },
      died);
  store.moved = read_image(directory);
  in_process(
      [&] {
        const Status fetched = fetch_half(directory);
        BALLAST_CHECK(fetched, "{}", fetched.error().message);
        return "";
      },
      died);
  BALLAST_CHECK(died.empty(), "the sample can't be written: {}", died);
  store.fetching = read_image(directory);
  return store;
}

Reading read_store(const std::string& directory, const SampleContent& content) {
  return read_with([&] { return open_node(directory); }, content);
}

Reading read_fetched(const std::string& directory, const SampleContent& content) {
  return read_with([&] { return open_fetched(directory); }, content);
}

}  // namespace ballast::storage
