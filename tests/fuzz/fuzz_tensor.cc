// What a node may say of a tensor: an error that says so, or a description that survives the way
// back, and no other one.
#include "client/internal/convert.h"
#include "proto/base/check.h"

namespace {

using namespace ballast;
using namespace ballast::client;

void check_tensor(const pb::Tensor& wire) {
  const auto tensor = from_wire(wire);
  if (!tensor) {
    BALLAST_CHECK(tensor.error().code == Errc::kCorrupt, "{}", tensor.error().to_string());
    return;
  }
  const pb::Tensor again = to_wire(*tensor);
  const auto twice = from_wire(again);
  BALLAST_CHECK(twice.has_value(), "{}", twice.error().to_string());
  BALLAST_CHECK(to_wire(*twice).SerializeAsString() == again.SerializeAsString());
  BALLAST_CHECK(twice->shape == tensor->shape && twice->small_shape() == tensor->small_shape());
  BALLAST_CHECK(again.blocks_size() == wire.blocks_size());
  for (int i = 0; i < wire.blocks_size(); ++i) {
    const pb::BlockRef &one = again.blocks(i), &other = wire.blocks(i);
    BALLAST_CHECK(one.digest() == other.digest() && one.length() == other.length() &&
                  one.crc32c() == other.crc32c());
  }
}

// A listing goes on, and says of what it does not know that it does not.
void check_summary(const pb::KeySummary& wire) {
  const KeySummary summary = from_wire(wire);
  BALLAST_CHECK(summary.key == wire.key() && summary.revision == wire.revision());
  BALLAST_CHECK(!summary.known || from_wire(wire.codec()).has_value());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pb::Tensor tensor;
  if (tensor.ParseFromArray(data, static_cast<int>(size))) check_tensor(tensor);
  pb::ManifestPart part;
  if (part.ParseFromArray(data, static_cast<int>(size)))
    for (const pb::Tensor& one : part.tensors()) check_tensor(one);
  pb::KeySummary summary;
  if (summary.ParseFromArray(data, static_cast<int>(size))) check_summary(summary);
  return 0;
}
