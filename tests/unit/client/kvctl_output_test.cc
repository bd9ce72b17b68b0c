// What kvctl shows and how it is called: output, errors, options, health, and the import's codecs.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "client/kvctl/application.h"
#include "client/kvctl/figures.h"
#include "client/kvctl/health.h"
#include "client/kvctl/import_policy.h"

namespace ballast::kvctl {
namespace {

using client::DType;

std::string printed(const Table& table) {
  testing::internal::CaptureStdout();
  table.print();
  std::fflush(stdout);
  return testing::internal::GetCapturedStdout();
}

// ---- output ----

TEST(Table, numbers_stand_right_and_text_left) {
  const Table table{.header = {"NAME", "BYTES", "TIME"},
                    .rows = {{"a", "12", "0.50 ms"}, {"longer", "1.2 MiB", "-"}}};
  EXPECT_EQ(printed(table),
            "NAME      BYTES     TIME\n"
            "a            12  0.50 ms\n"
            "longer  1.2 MiB        -\n");
}

TEST(Table, one_word_makes_a_column_text) {
  const Table table{.header = {"A", "B"}, .rows = {{"1", "x"}, {"[3, 4]", "y"}}};
  EXPECT_EQ(printed(table), "A       B\n1       x\n[3, 4]  y\n");
}

TEST(Table, width_counts_characters_and_rows_may_be_short) {
  const Table table{.header = {}, .rows = {{"n\xc3\xa9", "x"}, {"abc", "y"}, {"z"}}};
  EXPECT_EQ(printed(table), "n\xc3\xa9   x\nabc  y\nz\n");
}

TEST(Table, empty_table_prints_its_header) {
  EXPECT_EQ(printed({.header = {"A", "B"}, .rows = {}}), "A  B\n");
  EXPECT_EQ(printed({}), "");
}

TEST(HumanBytes, one_decimal_from_kib_on) {
  const std::vector<std::pair<uint64_t, std::string>> table = {
      {0, "0 B"},
      {1023, "1023 B"},
      {1024, "1.0 KiB"},
      {1'258'291, "1.2 MiB"},
      {1'048'575, "1.0 MiB"},  // never "1024.0 KiB"
      {uint64_t{5} << 40, "5.0 TiB"},
      {~uint64_t{0}, "16.0 EiB"},
  };
  for (const auto& [bytes, text] : table) EXPECT_EQ(human_bytes(bytes), text) << bytes;
}

TEST(Json, has_no_infinity) {
  EXPECT_EQ(finite_or_null(1.5).dump(), "1.5");
  EXPECT_EQ(finite_or_null(std::numeric_limits<double>::infinity()).dump(), "null");
  EXPECT_EQ(finite_or_null(std::nan("")).dump(), "null");
  EXPECT_EQ(decimal(std::numeric_limits<double>::infinity(), 2), "-");
  EXPECT_EQ(decimal(20.126, 2), "20.13");
}

TEST(Table, an_overflow_does_not_look_like_no_error) {
  EXPECT_EQ(decimal(-std::numeric_limits<double>::infinity(), 2), "-inf");
  const Table table{.header = {"SQNR dB"}, .rows = {{"20.13"}, {"-inf"}, {"-"}}};
  EXPECT_EQ(printed(table), "SQNR dB\n  20.13\n   -inf\n      -\n");
}

TEST(ProgressBar, is_nothing_without_a_terminal) {
  testing::internal::CaptureStderr();  // a file, whatever the test's own stderr is
  EXPECT_FALSE(static_cast<bool>(progress_bar("import")));
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

// ---- figures ----

client::StoredTensor stored(DType dtype, std::vector<uint64_t> shape, uint64_t encoded_bytes) {
  client::StoredTensor tensor;
  tensor.dtype = dtype;
  tensor.shape = std::move(shape);
  tensor.encoded_bytes = encoded_bytes;
  return tensor;
}

TEST(Totals, floats_and_matrices_are_counted_apart) {
  std::vector<client::StoredTensor> tensors = {
      stored(DType::kF32, {64, 64}, 2176),  // 4.25 bits
      stored(DType::kF32, {64}, 128),
      stored(DType::kI64, {2, 2}, 32),
  };
  tensors[0].error = quant::ErrorSums{
      .signal_energy = 100, .decoded_energy = 99, .noise_energy = 1, .max_abs_error = 0.5};
  const VersionTotals totals = totals_of(tensors);
  EXPECT_EQ(totals.all.tensors, 3u);
  EXPECT_EQ(totals.all.source_bytes, 64u * 64 * 4 + 64 * 4 + 32);
  EXPECT_EQ(totals.floats.values, 64u * 64 + 64);
  EXPECT_DOUBLE_EQ(totals.matrices.bits_per_weight(), 4.25);
  EXPECT_NEAR(totals.matrices.sqnr_db(), 20, 1e-9);
  EXPECT_EQ(VersionTotals().all.ratio(), 1);
  EXPECT_TRUE(std::isinf(VersionTotals().all.sqnr_db()));
}

TEST(TensorJson, of_an_exact_scalar) {
  const auto json = tensor_json(stored(DType::kF32, {}, 4));
  EXPECT_EQ(json["shape"].dump(), "[]");
  EXPECT_EQ(json["values"], 1);
  EXPECT_EQ(json["exact"], true);
  EXPECT_FALSE(json.contains("sqnr_db"));
  EXPECT_EQ(shape_text({}), "[]");
}

// ---- errors ----

TEST(ExitCode, is_what_the_design_says) {
  EXPECT_EQ(exit_code(Errc::kInvalidArgument), 2);
  EXPECT_EQ(exit_code(Errc::kUnknownOutcome), 3);
  EXPECT_EQ(exit_code(Errc::kRefused), 4);
  EXPECT_EQ(exit_code(Errc::kConflict), 4);
  EXPECT_EQ(exit_code(Errc::kNoSpace), 4);
  for (const Errc code : {Errc::kNotFound, Errc::kUnavailable, Errc::kDeadline, Errc::kCorrupt,
                          Errc::kIo, Errc::kAckNotReached, Errc::kInternal})
    EXPECT_EQ(exit_code(code), 1) << errc_name(code);
}

TEST(ErrorLine, is_one_line_whatever_the_message) {
  EXPECT_EQ(error_line({Errc::kNotFound, "key 'a\nb' does not exist"}),
            "kvctl: not found: key 'a b' does not exist: 'kvctl ls' lists what there is");
  EXPECT_EQ(error_line({Errc::kIo, "cannot open 'x'"}), "kvctl: io: cannot open 'x'");
}

// ---- options ----

struct Parsed {
  CLI::App app;
  Context context;

  Parsed() {
    ::unsetenv("BALLAST_ENDPOINTS");
    add_global_options(app, context);
    add_data_commands(app, context);
    add_model_commands(app, context);
    add_cluster_commands(app, context);
  }
  void parse(std::vector<std::string> arguments) {
    std::ranges::reverse(arguments);  // as CLI11 wants them
    app.parse(arguments);
  }
  std::string value(const std::string& command, const std::string& option) {
    return app.get_subcommand(command)->get_option(option)->as<std::string>();
  }
};

TEST(Options, o_is_the_file_behind_get_and_export_and_the_format_elsewhere) {
  Parsed get;
  get.parse({"get", "k", "-o", "json"});
  EXPECT_EQ(get.value("get", "--file"), "json");
  EXPECT_FALSE(get.context.json);
  EXPECT_TRUE(static_cast<bool>(get.context.run));

  Parsed both;
  both.parse({"-o", "json", "export", "m@1", "-o", "f.safetensors"});
  EXPECT_EQ(both.value("export", "--file"), "f.safetensors");
  EXPECT_TRUE(both.context.json);

  Parsed positional;
  positional.parse({"export", "m@1", "f.safetensors", "--output", "json"});
  EXPECT_EQ(positional.value("export", "--file"), "f.safetensors");
  EXPECT_TRUE(positional.context.json);

  Parsed behind;
  behind.parse({"import", "f.safetensors", "m", "-o", "json"});
  EXPECT_TRUE(behind.context.json);
}

TEST(Options, names_of_commands_are_names_like_others) {
  Parsed parsed;
  parsed.parse({"put", "status", "ls"});
  EXPECT_EQ(parsed.value("put", "KEY"), "status");
  EXPECT_EQ(parsed.value("put", "FILE.npy"), "ls");
}

TEST(Options, endpoints_come_from_the_option_or_the_environment) {
  Parsed option;
  option.parse({"ls", "--endpoints", "a:1,b:2", "--deadline", "1.5"});
  EXPECT_EQ(option.context.endpoints, (std::vector<std::string>{"a:1", "b:2"}));
  EXPECT_EQ(option.context.deadline, client::milliseconds(1500));

  Parsed environment;
  ::setenv("BALLAST_ENDPOINTS", "c:3,,d:4", 1);
  environment.parse({"ls"});
  ::unsetenv("BALLAST_ENDPOINTS");
  EXPECT_EQ(environment.context.endpoints, (std::vector<std::string>{"c:3", "d:4"}));
}

struct Outcome {
  int exit_code;
  std::string errors;
};
Outcome run(std::vector<const char*> arguments) {
  Parsed parsed;
  arguments.insert(arguments.begin(), "kvctl");
  testing::internal::CaptureStderr();
  const int code = run_application(parsed.app, parsed.context, static_cast<int>(arguments.size()),
                                   arguments.data());
  return {code, testing::internal::GetCapturedStderr()};
}

TEST(Application, bad_usage_is_one_line_and_exit_code_2) {
  struct Row {
    std::vector<const char*> arguments;
    std::string message;
  };
  const std::vector<Row> table = {
      {{}, "kvctl: bad usage: A subcommand is required: 'kvctl --help'"},
      {{"bogus"}, "there is no command 'bogus'"},
      {{"alias", "bogus"}, "there is no command 'bogus': 'kvctl alias --help'"},
      {{"put"}, "KEY is required: 'kvctl put --help'"},
      {{"ls", "--bogus"}, "--bogus"},
      {{"ls", "--deadline", "0"}, "--deadline"},
      {{"ls", "-o", "xml"}, "xml"},
      {{"alias", "set", "m@prod", "0"}, "VERSION"},
      {{"ls"}, "no endpoints; give --endpoints HOST:PORT,... or set BALLAST_ENDPOINTS"},
      {{"ls", "--read", "bogus"}, "bogus"},
      {{"ls", "--read", "bounded=5"}, "give a whole number with us, ms, s, m or h"},
      {{"get", "k", "-o", "f.npy", "--as", "int8"}, "--as int8: give f32, f16 or bf16"},
      {{"import", "f", "m", "--codec", "raw"}, "give 'exact'"},
      {{"import", "f", "m@1"}, "has an '@'"},
      {{"rm", "m@prod"}, "name the version, such as m@3"},
      {{"rm", "m@1/t"}, "versions do not change"},
      {{"alias", "set", "m", "1"}, "write MODEL@NAME"},
  };
  for (const Row& row : table) {
    const Outcome result = run(row.arguments);
    EXPECT_EQ(result.exit_code, kExitUsage) << result.errors;
    EXPECT_NE(result.errors.find(row.message), std::string::npos) << result.errors;
    EXPECT_EQ(result.errors.find('\n'), result.errors.size() - 1) << result.errors;
  }
}

// ---- health ----

client::ClusterStatus cluster_of_three() {
  client::ClusterStatus cluster;
  for (uint64_t id = 1; id <= 3; ++id) {
    client::NodeStatus node;
    node.member = {.id = id, .name = "n" + std::to_string(id), .address = ""};
    node.role = id == 1 ? "leader" : "follower";
    node.term = 4;
    node.leader_since_ms = 192'000;
    cluster.nodes.push_back(node);
  }
  cluster.nodes[0].peers = {{.id = 2, .match = 9, .lag_bytes = 0, .active = true},
                            {.id = 3, .match = 5, .lag_bytes = 77, .active = true}};
  return cluster;
}

TEST(Health, all_nodes_up) {
  const Health health = health_of(cluster_of_three());
  EXPECT_EQ(health.state, "healthy");
  EXPECT_EQ(health.text,
            "n1 leads since 3 min 12 s (term 4); 3 of 3 nodes are up, one more node can be lost");
  EXPECT_EQ(lag_bytes(cluster_of_three(), cluster_of_three().nodes[2]), 77u);
  EXPECT_FALSE(lag_bytes(cluster_of_three(), cluster_of_three().nodes[0]).has_value());
}

TEST(Health, node_that_we_or_the_leader_cannot_reach_does_not_count) {
  auto silent = cluster_of_three();
  silent.nodes[2].error = Error{Errc::kUnavailable, "refused"};
  EXPECT_EQ(health_of(silent).state, "degraded");
  EXPECT_EQ(health_of(silent).losses_tolerated, 0u);
  EXPECT_NE(health_of(silent).text.find("n3 does not answer; 2 of 3"), std::string::npos);
  auto unheard = cluster_of_three();
  unheard.nodes[0].peers[1].active = false;
  EXPECT_EQ(health_of(unheard).state, "degraded");
  EXPECT_NE(health_of(unheard).text.find("does not hear n3"), std::string::npos);
}

TEST(Health, a_full_disk_is_named) {
  auto full = cluster_of_three();
  full.nodes[2].full = true;
  EXPECT_EQ(health_of(full).state, "degraded");
  EXPECT_NE(health_of(full).text.find("the disk of n3 is full; 3 of 3"), std::string::npos);
  full.nodes[1].full = true;
  EXPECT_NE(health_of(full).text.find("the disks of n2, n3 are full"), std::string::npos);
  full.nodes[1].full = full.nodes[2].full = false;
  full.nodes[0].full = full.nodes[0].member.learner = true;
  EXPECT_EQ(health_of(full).text.find("full"), std::string::npos);
}

TEST(Health, no_leader_or_no_majority_is_down) {
  auto headless = cluster_of_three();
  headless.nodes[0].role = "follower";
  EXPECT_EQ(health_of(headless).state, "down");
  auto alone = cluster_of_three();
  alone.nodes[1].error = alone.nodes[2].error = Error{Errc::kUnavailable, "refused"};
  EXPECT_EQ(health_of(alone).state, "down");
}

TEST(Duration, two_units) {
  EXPECT_EQ(duration_text(7'900), "7 s");
  EXPECT_EQ(duration_text(3'600'000 * 5 + 60'000), "5 h 1 min");
  EXPECT_EQ(duration_text(86'400'000 * 3), "3 d 0 h");
}

TEST(Verify, states_are_compared_at_one_index) {
  std::vector<client::VerifyReport> reports(3);
  for (auto& report : reports) report.applied_index = 7;
  EXPECT_EQ(compare_states(reports), "equal");
  EXPECT_TRUE(verdict_of(reports, "equal").has_value());
  reports[2].applied_index = 8;
  EXPECT_EQ(compare_states(reports), "not_compared");
  reports[1].state.bytes[0] = std::byte{1};
  EXPECT_EQ(compare_states(reports), "differ");
  EXPECT_FALSE(verdict_of(reports, "differ").has_value());
  reports[0].damaged.emplace_back();
  EXPECT_FALSE(verdict_of(reports, "equal").has_value());
}

TEST(Verify, node_that_does_not_answer_is_not_verified) {
  std::vector<client::VerifyReport> reports(2);
  reports[1].member.name = "n2";
  reports[1].error = Error{Errc::kUnavailable, "refused"};
  const Status verdict = verdict_of(reports, compare_states(reports));
  ASSERT_FALSE(verdict.has_value());
  EXPECT_NE(verdict.error().message.find("n2"), std::string::npos);
}

// ---- the import's codecs ----

client::TensorSource vector_of(std::vector<float> values) {
  const uint64_t count = values.size();
  return {.name = "t",
          .dtype = DType::kF32,
          .shape = {count},
          .read = [values = std::move(values)](uint64_t offset, std::span<std::byte> out) {
            std::memcpy(out.data(), reinterpret_cast<const char*>(values.data()) + offset,
                        out.size());
            return Status();
          }};
}

TEST(ImportPolicy, vector_beyond_f16_stays_f32) {
  const client::EncodingPolicy encoding =
      without_f16_overflow([](const client::TensorSource&) -> client::Encoding {
        return {quant::exact_codec(DType::kF16), {}};
      });
  const auto policy = [&](const client::TensorSource& tensor) { return encoding(tensor).codec; };
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(policy(vector_of({1, 65504, -65504, infinity, std::nanf("")})),
            quant::exact_codec(DType::kF16));
  EXPECT_EQ(policy(vector_of({1, 65505})), quant::exact_codec(DType::kF32));
  EXPECT_EQ(policy(vector_of({-1e6F})), quant::exact_codec(DType::kF32));
  EXPECT_EQ(policy(vector_of({})), quant::exact_codec(DType::kF16));
  // The value that does not fit is in the last of several pieces.
  std::vector<float> many(300'000, 1.0F);
  EXPECT_EQ(policy(vector_of(many)), quant::exact_codec(DType::kF16));
  many.back() = 1e5F;
  EXPECT_EQ(policy(vector_of(many)), quant::exact_codec(DType::kF32));
  // Matrices are the codec's own matter.
  client::TensorSource matrix = vector_of({1e6F});
  matrix.shape = {1, 1};
  EXPECT_EQ(policy(matrix), quant::exact_codec(DType::kF16));
}

TEST(ImportPolicy, exact_keeps_each_dtype) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kI64})
    EXPECT_EQ((*import_policy("exact", {}))({.dtype = dtype, .shape = {2, 2}}).codec,
              quant::exact_codec(dtype));
  EXPECT_TRUE(import_policy("int4:group=16", {}).has_value());
  EXPECT_FALSE(import_policy("raw", {}).has_value());
  EXPECT_FALSE(import_policy("bogus", {}).has_value());
}

}  // namespace
}  // namespace ballast::kvctl
