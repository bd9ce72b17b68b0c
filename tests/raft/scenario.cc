#include "tests/raft/scenario.h"

#include <algorithm>
#include <memory>
#include <set>
#include <sstream>

#include "tests/raft/cluster.h"

namespace ballast::raft::testing {
namespace {

using Words = std::vector<std::string>;

Words split(const std::string& line) {
  std::istringstream stream(line);
  Words words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

NodeId node_of(const std::string& word) { return NodeId(std::stoull(word)); }

// "key=value" among the words, or `otherwise`.
uint64_t option(const Words& words, const std::string& key, uint64_t otherwise) {
  for (const std::string& word : words) {
    if (word.starts_with(key + "=")) return std::stoull(word.substr(key.size() + 1));
  }
  return otherwise;
}

// "key=1,2,3" among the words.
std::vector<NodeId> nodes_of(const Words& words, const std::string& key) {
  std::vector<NodeId> nodes;
  for (const std::string& word : words) {
    if (!word.starts_with(key + "=")) continue;
    std::istringstream list(word.substr(key.size() + 1));
    for (std::string node; std::getline(list, node, ',');) nodes.push_back(node_of(node));
  }
  return nodes;
}

// "A->B", "A->*", "*->B" and a message kind; both may be missing.
struct Filter {
  std::string from = "*";
  std::string to = "*";
  std::string kind;

  explicit Filter(const Words& words) {
    for (size_t i = 1; i < words.size(); ++i) {
      const size_t arrow = words[i].find("->");
      if (arrow != std::string::npos) {
        from = words[i].substr(0, arrow);
        to = words[i].substr(arrow + 2);
      } else if (words[i].find('=') == std::string::npos) {
        kind = words[i];
      }
    }
  }
  bool matches(const Message& message) const {
    return (from == "*" || node_of(from) == message.from) &&
           (to == "*" || node_of(to) == message.to) && (kind.empty() || kind == kind_of(message));
  }
};

class Runner {
 public:
  // What the command printed.
  std::string run(const std::string& line) {
    out_.clear();
    const Words words = split(line);
    if (cluster_ == nullptr && words[0] != "nodes") return "error: begin with `nodes`\n";
    if (!group_command(words) && !node_command(words) && !network_command(words)) {
      say("error: unknown command");
    }
    if (cluster_ != nullptr) {
      for (const std::string& broken : cluster_->violations) say("VIOLATION " + broken);
      cluster_->violations.clear();
    }
    return out_;
  }

 private:
  void say(const std::string& line) { out_ += line + "\n"; }
  void say_error(const Result<Index>& result) {
    if (!result) say(result.error().to_string());
  }

  bool group_command(const Words& words) {
    const std::string& command = words[0];
    if (command == "nodes") {
      make_cluster(words);
    } else if (command == "show" || command == "hide") {
      cluster_->show_messages = command == "show";
    } else if (command == "status") {
      for (uint64_t id = 1; id <= cluster_->size(); ++id) status(NodeId(id));
    } else if (command == "settle") {
      settle();
    } else if (command == "tick") {
      tick(words);
    } else if (command == "store") {
      store(words);
    } else {
      return false;
    }
    return true;
  }

  bool node_command(const Words& words) {
    const std::string& command = words[0];
    if (words.size() < 2) return false;
    if (command == "campaign") {
      cluster_->campaign(node_of(words[1]));
    } else if (command == "propose") {
      auto first = cluster_->propose(node_of(words[1]), option(words, "count", 1),
                                     static_cast<uint32_t>(option(words, "bytes", 100)));
      if (!first) say(first.error().to_string());
    } else if (command == "read") {
      auto id = cluster_->read_index(node_of(words[1]));
      if (!id) say(id.error().to_string());
    } else if (command == "transfer") {
      Status status = cluster_->transfer(node_of(words[1]), node_of(words.at(2)));
      if (!status) say(status.error().to_string());
    } else if (command == "change") {
      say_error(cluster_->change(node_of(words[1]),
                                 {nodes_of(words, "voters"), {}, nodes_of(words, "learners")}));
    } else if (command == "leave") {
      say_error(cluster_->leave(node_of(words[1])));
    } else if (command == "stall") {
      cluster_->stall(node_of(words[1]), words.at(2) == "on");
    } else if (command == "compact") {
      cluster_->compact(node_of(words[1]), Index(std::stoull(words.at(2))));
    } else if (command == "install") {
      cluster_->install(node_of(words[1]), node_of(words.at(2)));
    } else if (command == "members") {
      say(to_string(cluster_->core(node_of(words[1])).configuration()));
    } else if (command == "lost") {
      cluster_->lost(node_of(words[1]), node_of(words.at(2)));
    } else if (command == "crash") {
      cluster_->crash(node_of(words[1]));
    } else if (command == "restart") {
      cluster_->restart(node_of(words[1]));
    } else if (command == "log") {
      print_log(node_of(words[1]));
    } else if (command == "progress") {
      print_progress(node_of(words[1]));
    } else {
      return false;
    }
    return true;
  }

  bool network_command(const Words& words) {
    const std::string& command = words[0];
    if (command == "deliver") {
      deliver(Filter(words), option(words, "count", UINT64_MAX), false);
    } else if (command == "duplicate") {
      deliver(Filter(words), option(words, "count", UINT64_MAX), true);
    } else if (command == "drop") {
      const Filter filter(words);
      std::erase_if(cluster_->network, [&](const Message& message) {
        if (!filter.matches(message)) return false;
        say("dropped " + to_string(message));
        return true;
      });
    } else if (command == "network") {
      for (const Message& message : cluster_->network) say(to_string(message));
    } else if (command == "partition") {
      partition(words);
    } else if (command == "cut") {
      const Filter filter(words);
      cut_.insert({node_of(filter.from), node_of(filter.to)});
    } else if (command == "heal") {
      cut_.clear();
    } else {
      return false;
    }
    return true;
  }

  void make_cluster(const Words& words) {
    Options options;
    options.heartbeat_ticks = static_cast<int>(option(words, "heartbeat", 2));
    options.election_ticks_min = static_cast<int>(option(words, "election_min", 10));
    options.election_ticks_max = static_cast<int>(option(words, "election_max", 20));
    options.inflight_entries_max = option(words, "inflight_entries", options.inflight_entries_max);
    options.inflight_bytes_max = option(words, "inflight_bytes", options.inflight_bytes_max);
    options.append_entries_max = option(words, "append_entries", options.append_entries_max);
    options.append_bytes_max = option(words, "append_bytes", options.append_bytes_max);
    options.uncommitted_bytes_max = option(words, "uncommitted", options.uncommitted_bytes_max);
    cluster_ = std::make_unique<Cluster>(std::stoull(words.at(1)), options,
                                         option(words, "seed", 1), option(words, "founders", 0));
    cluster_->on_event = [this](const std::string& line) { say(line); };
    cluster_->passes = [this](const Message& message) {
      return !cut_.contains({message.from, message.to});
    };
  }

  void tick(const Words& words) {
    const uint64_t count = words.size() > 2 ? std::stoull(words[2]) : 1;
    for (uint64_t i = 0; i < count; ++i) {
      for (uint64_t id = 1; id <= cluster_->size(); ++id) {
        const NodeId node(id);
        const bool meant = words.at(1) == "all" || node == node_of(words[1]);
        if (meant && cluster_->running(node)) cluster_->tick(node);
        // "tick all N deliver" is a network that works while the time passes.
        if (words.back() == "deliver") settle();
      }
    }
  }

  void store(const Words& words) {
    const std::string how = words.size() > 2 ? words[2] : "all";
    for (uint64_t id = 1; id <= cluster_->size(); ++id) {
      const NodeId node(id);
      if (words.at(1) != "all" && node != node_of(words[1])) continue;
      if (how == "auto" || how == "manual") {
        cluster_->set_store_auto(node, how == "auto");
      } else {
        cluster_->store(node, how == "all" ? SIZE_MAX : std::stoull(how));
      }
    }
  }

  // Only what is in flight now, not what the deliveries cause.
  void deliver(const Filter& filter, uint64_t count, bool keep) {
    std::deque<Message> flight = std::exchange(cluster_->network, {});
    std::deque<Message> rest;
    std::vector<Message> chosen;
    for (Message& message : flight) {
      const bool take = filter.matches(message) && chosen.size() < count;
      if (take) chosen.push_back(message);
      if (!take || keep) rest.push_back(std::move(message));
    }
    cluster_->network = std::move(rest);
    for (const Message& message : chosen) {
      if (cluster_->show_messages) say(to_string(message));
      cluster_->deliver(message);
    }
    if (chosen.empty()) say("nothing in flight");
  }

  void settle() {
    for (size_t steps = 0; !cluster_->network.empty(); ++steps) {
      if (steps == 10'000) {
        say("error: the network does not come to rest");
        return;
      }
      const Message message = cluster_->network.front();
      cluster_->network.pop_front();
      if (cluster_->show_messages) say(to_string(message));
      cluster_->deliver(message);
    }
  }

  // "partition 1 | 2 3": nothing passes between the sides, nor what is in flight.
  void partition(const Words& words) {
    std::map<NodeId, int> side;
    int number = 0;
    for (size_t i = 1; i < words.size(); ++i) {
      if (words[i] == "|") {
        ++number;
      } else {
        side[node_of(words[i])] = number;
      }
    }
    for (const auto& [a, side_a] : side) {
      for (const auto& [b, side_b] : side) {
        if (side_a != side_b) cut_.insert({a, b});
      }
    }
    std::erase_if(cluster_->network, [&](const Message& message) {
      return cut_.contains({message.from, message.to});
    });
  }

  void status(NodeId node) {
    if (!cluster_->running(node)) {
      const Disk& disk = cluster_->disk(node);
      say(fmt::format("{} down, disk: term={} vote={} last={}", node, disk.hard.term,
                      disk.hard.vote, disk.last()));
      return;
    }
    const View view = cluster_->core(node).view();
    say(fmt::format("{} {} term={} vote={} leader={} commit={} stable={} last={}", node,
                    role_name(view.role), view.term, view.vote, view.leader, view.commit,
                    view.stable, view.last));
  }

  void print_log(NodeId node) {
    const Core& core = cluster_->core(node);
    std::vector<EntryMeta> entries;
    for (Index index = core.base().index + 1; index <= core.last(); ++index)
      entries.push_back(core.meta_at(index));
    say(entries.empty() ? "nothing" : to_string(entries));
  }

  void print_progress(NodeId node) {
    for (const PeerView& peer : cluster_->core(node).view().peers) {
      say(fmt::format("{} {} match={} next={} inflight={}/{}{}", peer.id,
                      peer.snapshot  ? "snapshot"
                      : peer.probing ? "probe"
                                     : "replicate",
                      peer.match, peer.next, peer.inflight_entries, peer.inflight_bytes,
                      peer.active ? "" : " inactive"));
    }
  }

  std::unique_ptr<Cluster> cluster_;
  std::set<std::pair<NodeId, NodeId>> cut_;
  std::string out_;
};

}  // namespace

std::string run_scenario(std::string_view text) {
  std::istringstream stream{std::string(text)};
  Runner runner;
  std::string result;
  std::string output;
  bool skipping = false;  // the old output, up to the next blank line
  for (std::string line; std::getline(stream, line);) {
    if (line.empty()) skipping = false;
    if (skipping) continue;
    result += line + "\n";
    if (line.empty() || line.starts_with('#')) continue;
    if (line == "----") {
      result += output.empty() ? "ok\n" : output;
      output.clear();
      skipping = true;
      continue;
    }
    output += runner.run(line);
  }
  return result;
}

}  // namespace ballast::raft::testing
