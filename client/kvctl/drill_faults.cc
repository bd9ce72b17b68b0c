#include "client/kvctl/drill_faults.h"

#include <signal.h>

#include <future>
#include <optional>
#include <utility>

namespace ballast::kvctl {
namespace {

using client::Client;
using std::chrono::milliseconds;

// How long acknowledgements must go on before a killed node comes back.
constexpr milliseconds kSettle{500};

// SIGKILL to the primary alone, or to all nodes at once; then they are started again.
class Kill : public Fault {
 public:
  Kill(LocalCluster& cluster, std::filesystem::path ballastd, bool all)
      : cluster_(cluster), ballastd_(std::move(ballastd)), all_(all) {}

  Status aim(const LocalNode& primary) override {
    targets_.clear();
    for (const LocalNode& node : cluster_.nodes()) {
      if (!all_ && node.id != primary.id) continue;
      BALLAST_TRY(auto target, cluster_.aim(node));
      targets_.push_back(std::move(target));
      // The primary first: what it might still answer meanwhile is no longer in flight.
      if (node.id == primary.id) std::swap(targets_.front(), targets_.back());
    }
    return {};
  }
  Status strike() override {
    for (const LocalCluster::Target& target : targets_) {
      BALLAST_TRY_STATUS(cluster_.strike(target));
    }
    return {};
  }
  Status await_effect() override {
    for (const LocalCluster::Target& target : targets_) {
      BALLAST_TRY_STATUS(cluster_.wait_gone(target));
    }
    return {};
  }
  Status undo() override {
    for (const LocalNode& node : cluster_.nodes()) {
      BALLAST_TRY_STATUS(cluster_.start(node, ballastd_));
    }
    return {};
  }
  bool survivable() const override { return !all_; }
  milliseconds hold() const override { return kSettle; }
  std::string_view deed() const override {
    return all_ ? "is killed with all the others" : "is killed";
  }

 private:
  LocalCluster& cluster_;
  const std::filesystem::path ballastd_;
  const bool all_;
  std::vector<LocalCluster::Target> targets_;
};

// SIGSTOP to the primary. Its connections stay, but nobody answers: the hardest case for clients.
class Pause : public Fault {
 public:
  Pause(LocalCluster& cluster, milliseconds time) : cluster_(cluster), time_(time) {}
  ~Pause() override { (void)undo(); }  // a process that is left frozen would be found by nobody
  Pause(const Pause&) = delete;
  Pause& operator=(const Pause&) = delete;

  Status aim(const LocalNode& primary) override {
    BALLAST_TRY(target_, cluster_.aim(primary));
    return {};
  }
  Status strike() override { return cluster_.strike(*target_, SIGSTOP); }
  Status await_effect() override { return {}; }
  Status undo() override {
    if (!target_) return {};
    const auto target = std::exchange(target_, std::nullopt);
    return cluster_.strike(*target, SIGCONT);
  }
  bool survivable() const override { return true; }
  milliseconds hold() const override { return time_; }
  std::string_view deed() const override { return "is frozen"; }

 private:
  LocalCluster& cluster_;
  const milliseconds time_;
  std::optional<LocalCluster::Target> target_;
};

// Leadership goes to another node because it is asked for. Nothing dies.
class Transfer : public Fault {
 public:
  explicit Transfer(Client& client) : client_(client) {}

  Status aim(const LocalNode& primary) override {
    primary_ = primary;
    return {};
  }
  Status strike() override {
    moved_ = std::async(std::launch::async, [this] { return client_.transfer_leadership(""); });
    return {};
  }
  Status await_effect() override {
    const auto moved = moved_.get();
    if (!moved) return fail_within(moved.error(), "'{}' does not hand over", primary_.name);
    if (moved->id != primary_.id) return {};
    return fail(Errc::kInternal, "'{}' handed over to itself", primary_.name);
  }
  Status undo() override { return {}; }
  bool survivable() const override { return true; }
  milliseconds hold() const override { return milliseconds(0); }
  std::string_view deed() const override { return "hands over"; }

 private:
  Client& client_;
  LocalNode primary_;
  std::future<Result<client::Member>> moved_;
};

}  // namespace

std::unique_ptr<Fault> make_fault(const DrillOptions& options, LocalCluster& cluster,
                                  Client& client, std::filesystem::path ballastd) {
  switch (options.scenario) {
    case Scenario::kKill: break;
    case Scenario::kTransfer: return std::make_unique<Transfer>(client);
    case Scenario::kPause: return std::make_unique<Pause>(cluster, options.pause);
    case Scenario::kRestartAll:
      return std::make_unique<Kill>(cluster, std::move(ballastd), /*all=*/true);
  }
  return std::make_unique<Kill>(cluster, std::move(ballastd), /*all=*/false);
}

}  // namespace ballast::kvctl
