// What a healthy cluster promises.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "client/kvctl/application.h"
#include "proto/base/crc32c.h"
#include "proto/base/digest.h"
#include "proto/net/connection.h"
#include "proto/peer.pb.h"
#include "tests/drills/running_cluster.h"

namespace ballast::testing {
namespace {

using client::Ack;
using client::Client;
using client::ReadLevel;
using namespace std::chrono_literals;

bool same(const client::Tensor& tensor, const std::vector<float>& values) {
  return std::ranges::equal(tensor.data, std::as_bytes(std::span(values)));
}

client::TensorSource source_of(std::string name, const std::vector<float>& values) {
  return {.name = std::move(name),
          .shape = {values.size()},
          .read = [&values](uint64_t offset, std::span<std::byte> out) -> Status {
            std::memcpy(out.data(), std::as_bytes(std::span(values)).data() + offset, out.size());
            return {};
          }};
}

TEST(Cluster, what_is_put_comes_back) {
  RunningCluster cluster;
  Client client = cluster.connect();
  // Empty, one value, one block, and enough blocks that their references need one of their own.
  for (const size_t count : {0u, 1u, 1000u, 262'144u, 3'000'000u}) {
    const std::vector<float> values = make_values(count, count);
    const std::string key = "values/" + std::to_string(count);
    const auto put = client.put(key, view_of(values), {});
    ASSERT_TRUE(put) << put.error().message;
    EXPECT_EQ(put->receipt.reached, Ack::kSync);
    const auto got = client.get(key, {});
    ASSERT_TRUE(got) << got.error().message;
    EXPECT_TRUE(same(*got, values)) << count;
  }
  std::vector<std::string> keys;
  ASSERT_TRUE(client.list("values/", ReadLevel::kLinearizable, [&](const auto& key) -> Status {
    keys.push_back(key.key);
    return {};
  }));
  EXPECT_EQ(keys.size(), 5u);
  ASSERT_TRUE(client.remove("values/1"));
  EXPECT_EQ(client.get("values/1", {}).error().code, Errc::kNotFound);
  EXPECT_EQ(client.remove("values/1").error().code, Errc::kNotFound);
}

TEST(Cluster, quantized_values_come_back_within_the_reported_error) {
  RunningCluster cluster;
  Client client = cluster.connect();
  const std::vector<float> values = make_values(500'000, 1);
  const auto put = client.put("w", view_of(values), {.codec = *quant::parse_codec("int4")});
  ASSERT_TRUE(put) << put.error().message;
  EXPECT_LT(put->tensor.encoded_bytes * 7, values.size() * sizeof(float));
  const auto got = client.get("w", {.as = client::DType::kF32});
  ASSERT_TRUE(got) << got.error().message;
  std::vector<float> decoded(values.size());
  ASSERT_EQ(got->data.size(), decoded.size() * sizeof(float));
  std::memcpy(decoded.data(), got->data.data(), got->data.size());
  double noise = 0, worst = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double error = static_cast<double>(values[i]) - static_cast<double>(decoded[i]);
    noise += error * error;
    worst = std::max(worst, std::abs(error));
  }
  ASSERT_TRUE(put->tensor.error);
  EXPECT_NEAR(noise, put->tensor.error->noise_energy, 1e-6 * noise);
  EXPECT_NEAR(worst, put->tensor.error->max_abs_error, 1e-9);
}

TEST(Cluster, every_node_serves_what_was_acknowledged) {
  RunningCluster cluster;
  Client writer = cluster.connect();
  const std::vector<float> values = make_values(10'000, 2);
  for (int i = 0; i < 20; ++i) {
    const std::string key = "k" + std::to_string(i);
    ASSERT_TRUE(writer.put(key, view_of(values), {}));
    for (const auto& node : cluster.processes().nodes()) {
      Client reader = cluster.connect_to(node);
      const auto got = reader.get(key, {.read = ReadLevel::kLinearizable});
      ASSERT_TRUE(got) << node.name << ": " << got.error().message;
      EXPECT_TRUE(same(*got, values));
    }
  }
}

TEST(Cluster, a_version_is_seen_whole_or_not_at_all) {
  RunningCluster cluster;
  Client client = cluster.connect();
  const std::vector<float> one = make_values(300'000, 3), two = make_values(5, 4);
  auto published = client.publish("m", {source_of("one", one), source_of("two", two)},
                                  {.metadata = {{"step", "17"}}, .expect_latest = 0});
  ASSERT_TRUE(published) << published.error().message;
  EXPECT_EQ(published->version.version, 1u);

  // A second version of which one tensor is new sends only that one.
  const std::vector<float> changed = make_values(5, 5);
  published =
      client.publish("m", {source_of("one", one), source_of("two", changed)}, {.expect_latest = 1});
  ASSERT_TRUE(published) << published.error().message;
  EXPECT_EQ(published->version.version, 2u);
  EXPECT_LT(published->uploaded_bytes, 10'000u);

  const auto first = client.version(*parse_reference("m@1"), ReadLevel::kLinearizable);
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_EQ(first->metadata.at("step"), "17");
  ASSERT_EQ(first->tensors.size(), 2u);
  std::vector<std::byte> bytes;
  ASSERT_TRUE(client.read(first->tensors[0], {}, [&](std::span<const std::byte> piece) -> Status {
    bytes.insert(bytes.end(), piece.begin(), piece.end());
    return {};
  }));
  EXPECT_EQ(std::memcmp(bytes.data(), one.data(), bytes.size()), 0);

  // A source that fails in the middle leaves nothing that anybody can see.
  client::TensorSource broken = source_of("broken", one);
  broken.read = [](uint64_t, std::span<std::byte>) -> Status {
    return fail(Errc::kIo, "the disk is gone");
  };
  const auto failed = client.publish("m", {source_of("one", two), broken}, {});
  EXPECT_EQ(failed.error().code, Errc::kIo);
  EXPECT_EQ(client.version(*parse_reference("m"), ReadLevel::kLinearizable)->version, 2u);
  EXPECT_EQ(client.publish("m", {source_of("one", two)}, {.expect_latest = 1}).error().code,
            Errc::kConflict);
}

TEST(Cluster, aliases_move_by_compare_and_set_and_back) {
  RunningCluster cluster;
  Client client = cluster.connect();
  const std::vector<float> values = make_values(5, 6);
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(client.publish("m", {source_of("t", values)}, {}));
  ASSERT_TRUE(client.set_alias("m", "prod", 1, 0));
  EXPECT_EQ(client.set_alias("m", "prod", 2, 2).error().code, Errc::kConflict);
  ASSERT_TRUE(client.set_alias("m", "prod", 2, 1));
  EXPECT_EQ(client.version(*parse_reference("m@prod"), ReadLevel::kLinearizable)->version, 2u);
  EXPECT_EQ(*client.rollback_alias("m", "prod"), 1u);
  const auto aliases = client.aliases("m", ReadLevel::kLinearizable);
  ASSERT_TRUE(aliases);
  EXPECT_EQ(aliases->front().version, 1u);
  EXPECT_EQ(client.set_alias("m", "prod", 3, std::nullopt).error().code, Errc::kNotFound);
  EXPECT_EQ(client.remove_version("m", 1).error().code, Errc::kConflict) << "an alias names it";
}

TEST(Cluster, an_async_write_can_be_waited_for) {
  RunningCluster cluster;
  Client client = cluster.connect();
  const std::vector<float> values = make_values(100, 7);
  const auto put = client.put("a", view_of(values), {.ack = Ack::kAsync});
  ASSERT_TRUE(put) << put.error().message;
  EXPECT_EQ(put->receipt.reached, Ack::kAsync);
  const auto waited = client.wait(put->receipt, Ack::kSyncAll);
  ASSERT_TRUE(waited) << waited.error().message;
  EXPECT_EQ(waited->reached, Ack::kSyncAll);
  EXPECT_TRUE(client.get("a", {}));
}

// Sends requests over a bare connection, one after the other, and returns the replies.
std::vector<pb::Reply> exchange(const std::string& address, pb::Request request, Bytes payload,
                                int times) {
  std::vector<pb::Reply> replies;
  asio::io_context io;
  const auto talk = [&]() -> asio::awaitable<void> {
    const auto soon = Clock::now() + 10s;
    auto connected =
        co_await net::Connection::connect(io.get_executor(), *net::parse_endpoint(address), soon);
    const auto connection = connected.value();
    pb::Hello hello;
    hello.set_protocol(wire::kProtocolVersion);
    connection->send(net::make_frame(wire::FrameType::kHello, 0, hello));
    EXPECT_TRUE(co_await connection->receive(soon));
    for (int i = 0; i < times; ++i) {
      connection->send(net::make_frame(wire::FrameType::kRequest, 1, request, {payload}));
      const auto frame = co_await connection->receive(soon);
      EXPECT_TRUE(frame && net::parse_frame(*frame, replies.emplace_back()));
    }
    connection->close();
  };
  asio::co_spawn(io, talk, asio::detached);
  io.run();
  return replies;
}

// A client whose answer was lost sends the same request again.
TEST(Cluster, a_repeated_commit_is_applied_once) {
  RunningCluster cluster;
  Client client = cluster.connect();
  const std::vector<float> values = make_values(4, 8);
  ASSERT_TRUE(client.put("k", view_of(values), {}));
  pb::Request request;
  request.set_deadline_ms(5000);
  request.mutable_commit()->set_session(std::string(16, 's'));
  request.mutable_commit()->set_sequence(1);
  request.mutable_commit()->add_operations()->mutable_delete_key()->set_key("k");
  const auto replies = exchange(cluster.leader().address, request, {}, 2);
  ASSERT_EQ(replies.size(), 2u);
  // The second time the key is gone, and yet the answer is the first one's.
  for (const pb::Reply& reply : replies) EXPECT_EQ(reply.write().result().code(), 0u);
  EXPECT_EQ(replies[0].write().result().index(), replies[1].write().result().index());
  EXPECT_LT(replies[0].write().token().index(), replies[1].write().token().index());
}

TEST(Cluster, a_lying_block_is_refused) {
  RunningCluster cluster;
  const Bytes bytes = Bytes::copy_of("not what the digest says");
  pb::Request request;
  request.set_deadline_ms(5000);
  pb::BlockRef& reference = *request.mutable_stage_block()->mutable_block();
  reference.set_digest(std::string(32, 'x'));
  reference.set_length(static_cast<uint32_t>(bytes.size()));
  reference.set_crc32c(crc32c(bytes.span()));
  const auto replies = exchange(cluster.leader().address, request, bytes, 1);
  ASSERT_EQ(replies.size(), 1u);
  EXPECT_EQ(replies[0].failure().code(), static_cast<uint32_t>(Errc::kInvalidArgument));
  EXPECT_NE(replies[0].failure().message().find("SHA-256"), std::string::npos);
}

// What `kvctl ls` prints.
std::string listed(const std::string& address, bool json) {
  CLI::App app;
  kvctl::Context context;
  kvctl::add_global_options(app, context);
  kvctl::add_data_commands(app, context);
  std::vector<const char*> arguments = {"kvctl", "--endpoints", address.c_str(), "ls"};
  if (json) arguments.insert(arguments.end(), {"-o", "json"});
  ::testing::internal::CaptureStdout();
  EXPECT_EQ(
      kvctl::run_application(app, context, static_cast<int>(arguments.size()), arguments.data()),
      0);
  std::fflush(stdout);
  return ::testing::internal::GetCapturedStdout();
}

TEST(Cluster, a_listing_goes_on_over_keys_of_a_newer_version) {
  RunningCluster cluster(1);
  Client client = cluster.connect();
  const std::vector<float> values = make_values(4, 8);
  for (const char* key : {"a", "z"}) ASSERT_TRUE(client.put(key, view_of(values), {}));
  const Bytes bytes = Bytes::copy_of("of a codec that is not invented yet");
  pb::Request request;
  request.set_deadline_ms(5000);
  request.set_ack(pb::ACK_SYNC);
  pb::BlockRef& block = *request.mutable_commit()->mutable_block();
  block.set_digest(std::string(sha256(bytes.span()).text()));
  block.set_length(static_cast<uint32_t>(bytes.size()));
  block.set_crc32c(crc32c(bytes.span()));
  pb::PutKey& put = *request.mutable_commit()->add_operations()->mutable_put_key();
  put.set_key("m");
  pb::Tensor& tensor = *put.mutable_tensor();
  tensor.set_dtype(250);
  tensor.mutable_codec()->set_id(250);
  tensor.add_shape(7);
  tensor.set_values_per_block(7);
  *tensor.add_blocks() = block;
  const auto replies = exchange(cluster.leader().address, request, bytes, 1);
  ASSERT_EQ(replies.size(), 1u);
  ASSERT_EQ(replies[0].write().result().code(), 0u) << replies[0].write().result().message();

  std::vector<std::pair<std::string, bool>> keys;
  const Status status = client.list("", ReadLevel::kLinearizable, [&](const auto& key) -> Status {
    keys.emplace_back(key.key, key.known);
    return {};
  });
  EXPECT_TRUE(status) << status.error().message;
  const std::vector<std::pair<std::string, bool>> expected = {
      {"a", true}, {"m", false}, {"z", true}};
  EXPECT_EQ(keys, expected);
  EXPECT_FALSE(client.get("m", {})) << "it can't be decoded";
  const std::string table = listed(cluster.leader().address, false);
  EXPECT_NE(table.find("?"), std::string::npos) << table;
  const std::string json = listed(cluster.leader().address, true);
  EXPECT_NE(json.find(R"("codec": "?")"), std::string::npos) << json;
  EXPECT_NE(json.find(R"("key": "z")"), std::string::npos) << json;
}

TEST(Cluster, a_single_node_works_alone) {
  RunningCluster cluster(1);
  Client client = cluster.connect();
  const std::vector<float> values = make_values(1000, 9);
  ASSERT_TRUE(client.put("k", view_of(values), {.ack = Ack::kSyncAll}));
  cluster.kill_all();
  cluster.start_all();
  const auto got = client.get("k", {});
  ASSERT_TRUE(got) << got.error().message;
  EXPECT_TRUE(same(*got, values));
}

}  // namespace
}  // namespace ballast::testing
