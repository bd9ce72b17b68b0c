// How tensors, versions and receipts are shown, in tables and in JSON: shared by the commands.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "client/client.h"
#include "client/kvctl/command.h"
#include "quant/error_report.h"

namespace ballast::kvctl {

// JSON has no infinity and no NaN: null.
nlohmann::ordered_json finite_or_null(double value);
// "-" for NaN and infinity, which is the SQNR where nothing is lost; "-inf" where all is.
std::string decimal(double value, int digits);
std::string shape_text(std::span<const uint64_t> shape);  // "[3, 64]", "[]" for a scalar
std::string local_time(uint64_t ms_since_1970);           // "2026-01-31 12:00:00"

// Sums over some tensors.
struct Totals {
  uint64_t tensors = 0;
  uint64_t values = 0;
  uint64_t source_bytes = 0;
  uint64_t encoded_bytes = 0;
  quant::ErrorSums error;               // of those that lost something, against what pruning left
  quant::ErrorSums error_with_pruning;  // likewise, against the tensors as they were written
  uint64_t pruned = 0;                  // tensors
  uint64_t removed = 0;                 // values that pruning took out of them
  uint64_t not_finite = 0;              // NaN and infinities among those
  uint64_t differences = 0;             // tensors with a base

  void add(const client::StoredTensor& tensor);
  double ratio() const;            // bytes before by bytes after; 1 if there are none
  double bits_per_weight() const;  // 0 if there are no values
  double sqnr_db() const;          // infinity if nothing was lost
  double removed_share() const;    // of the values
  double sqnr_db_with_pruning() const;
  std::string with_pruning_text() const;  // its SQNR: "8.65 dB", or "no error"
  std::string not_finite_text() const;    // REQUIRES: not_finite > 0
};
struct VersionTotals {
  Totals all;
  Totals floats;    // f32, f16 and bf16
  Totals matrices;  // floats of two dimensions or more
};
VersionTotals totals_of(std::span<const client::StoredTensor> tensors);

// What pruning took out of some tensors.
nlohmann::ordered_json pruned_json(const Totals& totals);
// Which slices of a structurally pruned tensor are left: "axis 0: 0-5, 7, 9-12".
std::string kept_text(const client::StoredTensor& tensor);

std::string encoding_text(const client::StoredTensor& tensor);  // "int4 2:4", "lossless +base"

nlohmann::ordered_json tensor_json(const client::StoredTensor& tensor);
Table tensor_table(std::span<const client::StoredTensor> tensors);
// Two columns, a property and its value.
Table tensor_properties(const client::StoredTensor& tensor);

nlohmann::ordered_json receipt_json(const client::Receipt& receipt);
std::string receipt_text(const client::Receipt& receipt);  // "sync at group 1, term 2, index 34"

}  // namespace ballast::kvctl
