// kvctl: the command line of a Ballast cluster.
#include <csignal>

#include "client/kvctl/application.h"

int main(int argc, char** argv) {
  using namespace ballast::kvctl;
  // "kvctl ls | head": the write fails with EPIPE, and partial files are still removed.
  std::signal(SIGPIPE, SIG_IGN);
  CLI::App app;
  Context context;
  add_global_options(app, context);
  add_data_commands(app, context);
  add_model_commands(app, context);
  add_cluster_commands(app, context);
  add_gc_command(app, context);
  add_member_commands(app, context);
  add_backup_commands(app, context);
  add_local_commands(app, context);
  add_drill_commands(app, context);
  return run_application(app, context, argc, argv);
}
