// All rows of a run, as a table for people and as JSON for bench/micro/report.
#pragma once

#include <string>
#include <vector>

#include "bench/micro/measure.h"

namespace ballast::micro {

struct Results {
  int core = 0;
  size_t rounds = 0;
  std::vector<std::string> sets;
  std::vector<QualityRow> quality;
  std::vector<QualityRow> pruned;  // their set is "NAME, PRUNING"
  std::vector<SizeRow> sizes;
  std::vector<SpeedRow> speeds;
};

void print_table(const Results& results);
// Errors: kIo.
Status write_json(const Results& results, const std::string& path);

}  // namespace ballast::micro
