// The files of 'kvctl import --policy'.
#include "client/kvctl/policy_file.h"

#include <gtest/gtest.h>

#include "quant/prune.h"

namespace ballast::kvctl {
namespace {

using client::DType;

client::TensorSource tensor(std::string name, std::vector<uint64_t> shape = {64, 64},
                            DType dtype = DType::kF32) {
  return {
      .name = std::move(name), .dtype = dtype, .shape = std::move(shape), .read = [](auto, auto) {
        return Status();
      }};
}

Result<PolicyFile> parse(std::string_view text) { return PolicyFile::parse(text, "int4"); }

// "ec4:bits=3.9", "sparse4 2:4".
std::string encoding_of(const PolicyFile& file, const client::TensorSource& source) {
  const client::Encoding encoding = file.policy()(source);
  const std::string codec = quant::codec_name(encoding.codec);
  return encoding.prune ? codec + " " + quant::prune_name(*encoding.prune) : codec;
}

TEST(Glob, star_is_any_text_and_question_mark_one_character) {
  struct Case {
    std::string_view glob, name;
    bool matches;
  };
  for (const auto& [glob, name, matches] : std::initializer_list<Case>{
           {"", "", true},
           {"", "a", false},
           {"*", "", true},
           {"*", "a.b", true},
           {"a", "a", true},
           {"a", "ab", false},
           {"a", "ba", false},
           {"*.bias", "layers.0.bias", true},
           {"*.bias", "layers.0.bias.x", false},
           {"*.bias", "bias", false},
           {"layers.*.w", "layers.0.mlp.w", true},
           {"layers.*.w", "layers.w", false},
           {"*a*b*", "xxaxxbxx", true},
           {"*a*b*", "xxbxxaxx", false},
           {"*aab", "aaaab", true},
           {"a**", "a", true},
           {"?", "a", true},
           {"?", "", false},
           {"?", "ab", false},
           {"layers.?.w", "layers.1.w", true},
           {"layers.?.w", "layers.11.w", false},
           {"*?", "", false},
           {"m?", "m\xc3\xa9", true},
           {"layers[0].w", "layers[0].w", true},
           {"W", "w", false},
       })
    EXPECT_EQ(glob_matches(glob, name), matches) << glob << " " << name;
}

TEST(PolicyFile, the_first_rule_that_matches_decides) {
  const auto file = parse(R"(
codec = "ec4"
prune = "1:4"
[[rule]]
tensors = ["*.norm", "head"]
codec = "exact"
[[rule]]
tensors = "layers.*"
codec = "int8"
[[rule]]
tensors = "*.bias"
codec = "bf16"
prune = "magnitude:0.5"
[[rule]]
tensors = "sparse"
prune = "2:4"
[[rule]]
tensors = "narrow"
prune = "columns:0.25"
)");
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(encoding_of(*file, tensor("layers.0.norm")), "f32") << "the first of two";
  EXPECT_EQ(encoding_of(*file, tensor("head", {8}, DType::kBF16)), "bf16") << "exactly";
  EXPECT_EQ(encoding_of(*file, tensor("layers.0.w")), "int8") << "not pruned";
  EXPECT_EQ(encoding_of(*file, tensor("layers.0.w", {64})), "int8") << "of any rank";
  EXPECT_EQ(encoding_of(*file, tensor("x.bias", {64})), "bf16 magnitude:0.5");
  EXPECT_EQ(encoding_of(*file, tensor("layers.0.step", {2, 2}, DType::kI64)), "raw");
  EXPECT_EQ(encoding_of(*file, tensor("sparse")), "sparse4 2:4");
  EXPECT_EQ(encoding_of(*file, tensor("narrow")), "int4 columns:0.25");
  EXPECT_EQ(encoding_of(*file, tensor("other")), "ec4 1:4") << "the file's own";
  EXPECT_EQ(encoding_of(*file, tensor("other", {64})), "f16") << "as with --codec";
  EXPECT_FALSE(file->has_lossless());
}

TEST(PolicyFile, without_rules_is_the_default) {
  const auto file = parse("# nothing\n");
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(encoding_of(*file, tensor("w")), "int4");
  EXPECT_EQ(encoding_of(*file, tensor("b", {64})), "f16");
  EXPECT_TRUE(file->uses({}).empty());
}

TEST(PolicyFile, takes_the_default_codec_where_it_names_none) {
  const auto file = PolicyFile::parse("[[rule]]\ntensors = 'w'\nprune = 'rows:0.5'\n", "lossless");
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(encoding_of(*file, tensor("w")), "lossless rows:0.5");
  EXPECT_EQ(encoding_of(*file, tensor("other", {64})), "lossless");
  EXPECT_TRUE(file->has_lossless());
}

TEST(PolicyFile, knows_whether_differences_are_of_use) {
  EXPECT_TRUE(parse("codec = 'lossless'")->has_lossless());
  EXPECT_TRUE(parse("[[rule]]\ntensors = 'a'\ncodec = 'lossless'")->has_lossless());
}

TEST(PolicyFile, counts_what_its_globs_do) {
  const auto file = parse(R"([[rule]]
tensors = ["*.w", "b.w"]
codec = "int8"
[[rule]]
tensors = [
  "nothing",
  "*",
]
codec = "f16"
)");
  ASSERT_TRUE(file) << file.error().message;
  const std::vector<client::TensorSource> tensors = {tensor("a.w"), tensor("b.w"), tensor("c"),
                                                     tensor("nothing", {}, DType::kI64)};
  const std::vector<GlobUse> uses = file->uses(tensors);
  const std::vector<GlobUse> expected = {
      {"*.w", 2, 2, 2}, {"b.w", 2, 1, 0}, {"nothing", 6, 0, 0}, {"*", 7, 3, 1}};
  ASSERT_EQ(uses.size(), expected.size());
  for (size_t i = 0; i < uses.size(); ++i) {
    EXPECT_EQ(uses[i].glob, expected[i].glob);
    EXPECT_EQ(uses[i].line, expected[i].line) << uses[i].glob;
    EXPECT_EQ(uses[i].matched, expected[i].matched) << uses[i].glob;
    EXPECT_EQ(uses[i].decided, expected[i].decided) << uses[i].glob;
  }
}

TEST(PolicyFile, errors_say_the_line_and_what_is_known) {
  struct Case {
    std::string_view text, error;
  };
  for (const auto& [text, error] : std::initializer_list<Case>{
           {"codec = \"int4\"\ncodek = \"int8\"\n",
            "line 2: unknown key 'codek' outside of a [[rule]]; known are: codec, prune, rule"},
           {"[[rule]]\nglob = \"*\"\ncodec = \"int4\"\n",
            "line 2: unknown key 'glob' in a [[rule]]; known are: tensors, codec, prune"},
           {"\n[[rule]]\ncodec = \"int4\"\n", "line 2: a [[rule]] lacks 'tensors'"},
           {"\n[[rule]]\ntensors = \"*\"\n", "line 2: a [[rule]] needs 'codec', 'prune' or both"},
           {"[[rule]]\ntensors = []\ncodec = \"int4\"\n",
            "line 2: 'tensors' must be a text in quot"},
           {"[[rule]]\ntensors = [\"a\", 1]\ncodec = \"int4\"\n",
            "line 2: 'tensors' must be a text"},
           {"[[rule]]\ntensors = 1\ncodec = \"int4\"\n",
            "line 2: 'tensors' must be a text in quot"},
           {"[[rule]]\ntensors = \"*\"\ncodec = \"int5\"\n",
            "line 3: codec 'int5' is not known; known are "},
           {"[[rule]]\ntensors = \"*\"\ncodec = \"raw\"\n", "line 3: codec raw: give 'exact'"},
           {"[[rule]]\ntensors = \"*\"\ncodec = 4\n", "line 3: 'codec' must be a text in quotes"},
           {"[[rule]]\ntensors = \"*\"\nprune = \"3:2\"\n", "line 3: pruning '3:2' is not known; "},
           {"prune = 0.5\n", "line 1: 'prune' must be a text in quotes"},
           {"\ncodec = \"\"\n", "line 2: 'codec' must be a text in quotes"},
           {"codec = \"ec4:bits=9\"\n", "line 1: codec 'ec4:bits=9' is not known"},
           {"[rule]\ntensors = \"*\"\n", "line 1: a rule begins with [[rule]]"},
           {"rule = \"*\"\n", "line 1: a rule begins with [[rule]]"},
           {"codec = \"int4\"\n[[rule]\n", "line 2: "},
       }) {
    const auto file = parse(text);
    ASSERT_FALSE(file) << text;
    EXPECT_EQ(file.error().code, Errc::kInvalidArgument);
    EXPECT_TRUE(file.error().message.starts_with(error)) << file.error().message;
    EXPECT_EQ(file.error().message.find('\n'), std::string::npos) << file.error().message;
  }
}

TEST(PolicyFile, the_example_is_one) {
  const auto file = PolicyFile::load(BALLAST_EXAMPLES "/import_policy.toml", "int4");
  ASSERT_TRUE(file) << file.error().message;
  const std::string layer = "model.layers.12.";
  EXPECT_EQ(encoding_of(*file, tensor(layer + "input_layernorm.weight", {64})), "f32");
  EXPECT_EQ(encoding_of(*file, tensor("model.norm.weight", {64}, DType::kBF16)), "bf16");
  EXPECT_EQ(encoding_of(*file, tensor("model.embed_tokens.weight")), "int8");
  EXPECT_EQ(encoding_of(*file, tensor(layer + "mlp.up_proj.weight")), "ec4:bits=3.9");
  EXPECT_EQ(encoding_of(*file, tensor(layer + "self_attn.q_proj.weight")), "sparse4 2:4");
  EXPECT_EQ(encoding_of(*file, tensor(layer + "adapter")), "int4");
}

TEST(PolicyFile, a_file_that_is_none_is_named) {
  const auto missing = PolicyFile::load("/nonexistent/policy.toml", "int4");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, Errc::kIo);
  EXPECT_NE(missing.error().message.find("/nonexistent/policy.toml"), std::string::npos);
  const auto model = PolicyFile::load(BALLAST_TEST_DATA "/silero_vad_16k.safetensors", "int4");
  ASSERT_FALSE(model);
  EXPECT_NE(model.error().message.find("silero_vad_16k.safetensors"), std::string::npos);
}

}  // namespace
}  // namespace ballast::kvctl
