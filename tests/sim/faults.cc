#include "tests/sim/faults.h"

namespace ballast::sim {
namespace {

// Each in one of so many runs.
void draw_disk_faults(Faults& faults, raft::Prng& chance, uint64_t runs) {
  const auto drawn = [&] { return chance.below(runs) == 0; };
  const auto often = [&] { return 1'000 + chance.below(4'000); };
  faults.disk.segment_bytes = (128ull << 10) << chance.below(6);
  if (drawn()) faults.disk.segment_us_max = 10'000 + chance.below(3'000'000);
  if (drawn()) faults.disk.read_error_ppm = 100'000 + chance.below(400'000);
  if (drawn()) faults.misplace_ms = often();
  if (drawn()) faults.recovery_crash_ppm = 200'000 + chance.below(600'000);
  if (drawn()) faults.strand_ms = often();
  if (drawn()) {
    faults.hang_ms = often();
    faults.hang_length_ms = 500 + chance.below(2'000);
  }
  if (drawn()) {
    faults.full_ms = often();
    faults.full_length_ms = 500 + chance.below(4'000);
    // Somebody must need space.
    faults.disk.segment_bytes = 128ull << 10;
  }
}

// Logs that forget, and give their segments back. Small ones, for that to happen often.
void draw_log_keep(Faults& faults, raft::Prng& chance) {
  if (chance.below(2) == 0) return;
  faults.log_keep_bytes = 1 + chance.below(4ull << 10);
  faults.disk.segment_bytes = 128ull << 10;
}

}  // namespace

Faults lite(raft::Prng& chance) {
  Faults faults;
  faults.storm_ms = 6'000;
  faults.requests = 250;
  faults.loss_ppm = chance.below(30'000);
  faults.duplicate_ppm = chance.below(30'000);
  faults.slow_ppm = chance.below(50'000);
  faults.slow_us_max = 300'000;
  faults.partition_ms = 2'000 + chance.below(4'000);
  faults.crash_ms = 1'000 + chance.below(3'000);
  faults.transfer_ms = 2'000 + chance.below(4'000);
  faults.clock_ppm = chance.below(50'000);
  faults.disk.write_us_max = 200 + chance.below(6'000);
  if (chance.below(2) == 0) {
    faults.pause_ms = 2'000 + chance.below(4'000);
    faults.pause_length_ms = 2'500;
  }
  if (chance.below(3) == 0) {
    faults.disk.stall_ppm = chance.below(30'000);
    faults.disk.stall_us_max = 2'500'000;
  }
  if (chance.below(3) == 0) {
    faults.spares = 1;
    faults.change_ms = 500 + chance.below(1'000);
    if (chance.below(2) == 0) faults.wipe_ms = 2'000 + chance.below(2'000);
  }
  if (chance.below(3) == 0) faults.rot_ms = 2'000 + chance.below(3'000);
  draw_disk_faults(faults, chance, 6);
  draw_log_keep(faults, chance);
  return faults;
}

Faults swarm(raft::Prng& chance) {
  const auto often = [&](uint64_t least_ms, uint64_t most_ms) -> uint64_t {
    if (chance.below(3) == 0) return 0;  // not in this run
    return least_ms + chance.below(most_ms - least_ms);
  };
  Faults faults;
  faults.nodes = 3 + chance.below(3);
  faults.clients = 2 + chance.below(6);
  faults.storm_ms = 15'000 + chance.below(15'000);
  faults.requests = 600;
  faults.delay_us_spread = 200 + chance.below(30'000);
  faults.loss_ppm = chance.below(150'000);
  faults.duplicate_ppm = chance.below(200'000);
  faults.corrupt_ppm = chance.below(5'000);
  faults.slow_ppm = chance.below(100'000);
  faults.slow_us_max = chance.below(3'000'000);
  faults.partition_ms = often(500, 6'000);
  faults.partition_heal_ms = 300 + chance.below(4'000);
  faults.crash_ms = often(400, 6'000);
  faults.restart_ms = 100 + chance.below(3'000);
  faults.pause_ms = often(1'000, 8'000);
  faults.clock_ppm = chance.below(200'000);
  faults.transfer_ms = often(500, 5'000);
  faults.flush_ms = 50 + chance.below(4'000);
  faults.disk.write_us_max = 100 + chance.below(20'000);
  faults.disk.stall_ppm = chance.below(3) == 0 ? chance.below(20'000) : 0;
  faults.disk.stall_us_max = chance.below(12'000'000);
  faults.disk.error_ppm = chance.below(3) == 0 ? chance.below(1'000) : 0;
  faults.rot_ms = often(2'000, 10'000);
  faults.wipe_ms = often(4'000, 20'000);
  faults.change_ms = often(300, 3'000);
  if (faults.change_ms != 0) faults.spares = chance.below(3);
  draw_disk_faults(faults, chance, 3);
  draw_log_keep(faults, chance);
  return faults;
}

}  // namespace ballast::sim
