#include "client/backup.h"

#include <fmt/chrono.h>

#include <algorithm>
#include <deque>
#include <filesystem>
#include <future>
#include <utility>

#include "client/internal/convert.h"
#include "client/internal/engine.h"
#include "proto/backup/directory.h"
#include "proto/net/worker.h"

namespace ballast::client {
namespace {

constexpr int kAttemptsMax = 5;
// They wait for the disk most of the time.
constexpr unsigned kThreads = 8;

std::string name_of(std::chrono::system_clock::time_point time) {
  return fmt::format("{:%Y%m%dT%H%M%SZ}", std::chrono::floor<std::chrono::seconds>(time));
}
std::string time_text(std::chrono::system_clock::time_point time) {
  const auto second = std::chrono::floor<std::chrono::seconds>(time);
  const auto rest = std::chrono::duration_cast<milliseconds>(time - second);
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", second, rest.count());
}

// The own disk and the own usage are not better in another attempt.
bool worth_another(const Error& error) {
  return error.code != Errc::kIo && error.code != Errc::kNoSpace && error.code != Errc::kRefused &&
         error.code != Errc::kInvalidArgument && error.code != Errc::kInternal;
}

pb::Request fresh_read() {
  pb::Request request;
  set_read_level(request, ReadLevel::kLinearizable);
  request.mutable_list_keys()->set_limit(1);
  return request;
}

// The rows of one moment, as one member holds them.
struct Source {
  uint64_t member = 0;
  pb::OpenSnapshotReply opened;
};

class BackupMaker {
 public:
  BackupMaker(Engine& engine, const backup::NewBackup& backup, const BackupOptions& options)
      : engine_(engine), backup_(backup), options_(options) {}

  Result<BackupReport> run() {
    for (int attempt = 1;; ++attempt) {
      auto report = make(attempt);
      if (report || attempt == kAttemptsMax || !worth_another(report.error())) return report;
    }
  }

 private:
  Result<BackupReport> make(int attempt);
  Result<Source> open_source(int attempt);
  Result<Source> open_at(uint64_t member);
  Result<backup::RowsSummary> fetch_rows(const Source& source);
  Status fetch_blocks(const backup::RowsSummary& rows, BackupReport& report);
  // True if it was not there.
  asio::awaitable<Result<bool>> keep_block(pb::BlockRef reference);

  Engine& engine_;
  const backup::NewBackup& backup_;
  const BackupOptions& options_;
};

Result<BackupReport> BackupMaker::make(int attempt) {
  BackupReport report{.attempts = attempt};
  BALLAST_TRY(const Source source, open_source(attempt));
  backup::Manifest& manifest = report.manifest;
  manifest = {.name = backup_.name(),
              .cluster = engine_.cluster(),
              .created = time_text(std::chrono::system_clock::now()),
              .chain = source.opened.chain()};
  BALLAST_TRY(manifest.rows, fetch_rows(source));
  if (manifest.rows.index != Index(source.opened.index()) ||
      manifest.rows.term != Term(source.opened.term()))
    return fail(Errc::kCorrupt, "member {} sent rows of another entry than {}", source.member,
                source.opened.index());
  BALLAST_TRY_STATUS(fetch_blocks(manifest.rows, report));
  BALLAST_TRY_STATUS(backup_.finish(manifest));
  return report;
}

// Another member first in each attempt.
Result<Source> BackupMaker::open_source(int attempt) {
  // While a primary is elected no member would do: this waits for it.
  BALLAST_TRY(const Response elected, engine_.at_any(fresh_read(), engine_.deadline({})));
  const std::vector<Member> members = engine_.members();
  Error last{Errc::kUnavailable, "no member is known"};
  for (size_t i = 0; i < members.size(); ++i) {
    const Member& member = members[(static_cast<size_t>(attempt - 1) + i) % members.size()];
    auto source = open_at(member.id);
    if (source) return source;
    last = {source.error().code, fmt::format("{}: {}", member.name, source.error().message)};
  }
  return std::unexpected(std::move(last));
}

Result<Source> BackupMaker::open_at(uint64_t member) {
  // When it has answered this it has applied all that was acknowledged before.
  const auto step = engine_.options().attempt_timeout;
  BALLAST_TRY(const Response read, engine_.at_member(member, fresh_read(), engine_.deadline(step)));
  pb::Request request;
  request.mutable_open_snapshot();
  BALLAST_TRY(const Response response,
              engine_.at_member(member, std::move(request), engine_.deadline(step)));
  return Source{member, response.reply.open_snapshot()};
}

Result<backup::RowsSummary> BackupMaker::fetch_rows(const Source& source) {
  BALLAST_TRY(backup::RowsWriter rows, backup_.begin());
  std::string after;
  for (bool last = false; !last;) {
    pb::Request request;
    request.mutable_read_snapshot()->set_id(source.opened.id());
    request.mutable_read_snapshot()->set_after(after);
    BALLAST_TRY(const Response response,
                engine_.at_member(source.member, std::move(request), engine_.deadline({})));
    last = response.reply.read_snapshot().last();
    pb::RowPage page;
    const Bytes& bytes = response.payload;
    if (!page.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())) ||
        (page.rows().empty() && !last))
      return fail(Errc::kCorrupt, "member {} sent a page without rows", source.member);
    if (page.rows().empty()) break;
    after = page.rows().rbegin()->key();
    BALLAST_TRY_STATUS(rows.add(bytes.span()));
  }
  return rows.finish();
}

asio::awaitable<Result<bool>> BackupMaker::keep_block(pb::BlockRef reference) {
  const bool there = co_await net::on_worker(
      engine_.workers(), [&] { return backup_.directory().block(reference).has_value(); });
  if (there) co_return false;
  BALLAST_CO_TRY(const BlockId id, from_wire(reference));
  BALLAST_CO_TRY(const Bytes bytes, co_await engine_.block(id));
  BALLAST_CO_TRY_STATUS(co_await net::on_worker(
      engine_.workers(), [&] { return backup_.put_block(reference, bytes.span()); }));
  co_return true;
}

// Blocks that are being looked for or fetched, in order. Each is awaited before this goes.
class BlocksUnderWay {
 public:
  explicit BlocksUnderWay(BackupReport& report) : report_(report) {}
  ~BlocksUnderWay() {
    for (auto& [bytes, job] : jobs_) job.wait();
  }
  BlocksUnderWay(const BlocksUnderWay&) = delete;
  BlocksUnderWay& operator=(const BlocksUnderWay&) = delete;

  size_t size() const { return jobs_.size(); }
  void add(uint64_t bytes, std::future<Result<bool>> job) {
    jobs_.emplace_back(bytes, std::move(job));
  }
  Status take() {
    auto [bytes, job] = std::move(jobs_.front());
    jobs_.pop_front();
    BALLAST_TRY(const bool fetched, job.get());
    (fetched ? report_.new_blocks : report_.shared_blocks) += 1;
    (fetched ? report_.new_bytes : report_.shared_bytes) += bytes;
    return {};
  }

 private:
  BackupReport& report_;
  std::deque<std::pair<uint64_t, std::future<Result<bool>>>> jobs_;
};

Status BackupMaker::fetch_blocks(const backup::RowsSummary& rows, BackupReport& report) {
  BALLAST_TRY(backup::RowsReader reader, backup_.directory().rows(backup_.name()));
  BlocksUnderWay under_way(report);
  const auto take = [&]() -> Status {
    BALLAST_TRY_STATUS(under_way.take());
    if (options_.progress)
      options_.progress(report.new_bytes + report.shared_bytes, rows.block_bytes);
    return {};
  };
  while (true) {
    BALLAST_TRY(const auto page, reader.next());
    if (!page) break;
    for (const pb::RowPage::Row& row : page->rows()) {
      BALLAST_TRY(const auto block, backup::block_of(row));
      if (!block) continue;
      if (under_way.size() >= engine_.options().window_blocks) BALLAST_TRY_STATUS(take());
      under_way.add(block->length(), engine_.start(keep_block(*block)));
    }
  }
  while (under_way.size() > 0) BALLAST_TRY_STATUS(take());
  return {};
}

// Two in one second differ too.
std::string free_name(const std::string& directory) {
  const std::string name = name_of(std::chrono::system_clock::now());
  const backup::BackupDirectory backups(directory);
  std::string free = name;
  std::error_code error;
  for (int i = 2; std::filesystem::exists(backups.manifest_path(free), error); ++i)
    free = fmt::format("{}-{}", name, i);
  return free;
}

}  // namespace

Result<BackupReport> create_backup(const Options& cluster, const BackupOptions& options) {
  BALLAST_TRY(
      const backup::NewBackup backup,
      backup::NewBackup::open(options.directory,
                              options.name.empty() ? free_name(options.directory) : options.name));
  Options own = cluster;
  own.window_blocks = std::max<size_t>(1, own.window_blocks);
  own.threads = std::max(own.threads, kThreads);
  Engine engine(std::move(own));
  BALLAST_TRY_STATUS(engine.connect());
  return BackupMaker(engine, backup, options).run();
}

}  // namespace ballast::client
