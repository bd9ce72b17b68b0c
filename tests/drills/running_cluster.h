// A cluster of real processes in a temporary folder, for one test.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "client/client.h"
#include "client/kvctl/local_cluster.h"

namespace ballast::testing {

class RunningCluster {
 public:
  // `prepare` is called when the folders of the nodes are there, and before any of them starts.
  using Prepare = std::function<void(RunningCluster&)>;
  explicit RunningCluster(unsigned nodes = 3, const Prepare& prepare = nullptr);
  // Of a plan, whose ports and segments are ours. It may be left to the test to start the nodes.
  RunningCluster(kvctl::LocalPlan plan, const Prepare& prepare, bool starts = true);
  ~RunningCluster();

  kvctl::LocalCluster& processes() { return *cluster_; }
  // A client of all nodes, or of one alone.
  client::Client connect(client::Options options = {});
  client::Client connect_to(const kvctl::LocalNode& node, client::Options options = {});

  // Adds lines to a section of all nodes' configurations. Each reads it when it starts.
  void configure(const std::string& section, const std::string& lines);

  // The node that leads, once one does.
  const kvctl::LocalNode& leader();
  // Some node that does not lead.
  const kvctl::LocalNode& follower();
  void start(const kvctl::LocalNode& node);
  void start_all();
  void kill(const kvctl::LocalNode& node);
  void kill_all();
  // The same for a node that may be gone already.
  void make_sure_gone(const kvctl::LocalNode& node);
  // Where its disk is mounted, if it has one of its own.
  std::filesystem::path data_directory(const kvctl::LocalNode& node) const;
  // Empties the data directory of a node that does not run.
  void wipe(const kvctl::LocalNode& node);
  // Gives a node that does not run another address in its own configuration, and returns that.
  std::string move(const kvctl::LocalNode& node);
  // One more node, which runs and waits to be let in.
  kvctl::LocalNode add();
  // Waits until all nodes answer, one leads, and all have applied the same.
  void settle();

  // Polls until the condition holds; fails the test after half a minute.
  static bool eventually(const std::function<bool()>& condition);

 private:
  void expect_clean_log(const kvctl::LocalNode& node);

  std::filesystem::path dir_;
  std::optional<kvctl::LocalCluster> cluster_;
};

// Values that depend on the seed alone.
std::vector<float> make_values(size_t count, uint64_t seed);
client::TensorView view_of(const std::vector<float>& values);
// The values as a tensor to be published. They must outlive it.
client::TensorSource source_of(std::string name, const std::vector<float>& values);
std::string text_of(const std::filesystem::path& file);

}  // namespace ballast::testing
