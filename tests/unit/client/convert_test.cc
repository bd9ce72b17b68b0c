#include "client/internal/convert.h"

#include <gtest/gtest.h>

#include "proto/base/limits.h"

namespace ballast::client {
namespace {

StoredTensor tensor_of(uint64_t values) {
  const CodecSpec codec = quant::parse_codec("int4").value();
  return {.name = "weights",
          .section = "model",
          .dtype = DType::kF32,
          .shape = {values},
          .codec = codec,
          .values_per_block = quant::values_per_block(codec, DType::kF32),
          .blocks = {BlockId{.length = 100}}};
}

TEST(Convert, a_tensor_comes_back) {
  const auto back = from_wire(to_wire(tensor_of(1000)));
  ASSERT_TRUE(back.has_value()) << back.error().to_string();
  EXPECT_EQ(back->values(), 1000U);
  EXPECT_EQ(back->values_per_block, tensor_of(1000).values_per_block);
}

// A reader makes room for a block's values before it has the block: what no block holds would
// be more memory than there is.
TEST(Convert, blocks_of_more_values_than_fit_are_corrupt) {
  StoredTensor tensor = tensor_of(uint64_t{1} << 48);
  tensor.values_per_block = uint64_t{1} << 48;
  StoredTensor child = tensor_of(1000);
  child.base = std::make_shared<const StoredTensor>(tensor);
  for (const StoredTensor& damaged : {tensor, child}) {
    const auto back = from_wire(to_wire(damaged));
    ASSERT_FALSE(back.has_value());
    EXPECT_EQ(back.error().code, Errc::kCorrupt);
  }
}

}  // namespace
}  // namespace ballast::client
