#include "xlstm/model/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/io/io_test_support.h"
#include "xlstm/core/str.h"

namespace xlstm {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

ModelConfig parse(const std::string& text) {
  return parse_model_config(json::parse(text), "config.json");
}

ModelConfig parse_xlstm(json config) {
  config["model_type"] = "xlstm";
  return parse_model_config(config, "config.json");
}

std::string parse_error(const json& config) {
  return test::error_text(ExitCode::kCheckpoint,
                          [&] { static_cast<void>(parse_model_config(config, "dir/config.json")); });
}

TEST(ModelConfig, AnEmptyConfigurationHasTheDefaultsOfXlstm7b) {
  const ModelConfig config = parse(R"({"model_type": "xlstm"})");
  EXPECT_EQ(config.vocab_size, 50304);
  EXPECT_EQ(config.embedding_dim, 4096);
  EXPECT_EQ(config.num_blocks, 32);
  EXPECT_EQ(config.num_heads, 8);
  EXPECT_EQ(config.qk_dim, 2048);
  EXPECT_EQ(config.v_dim, 4096);
  EXPECT_EQ(config.ffn_dim, 10944);
  EXPECT_EQ(config.head_dim_qk(), 256);
  EXPECT_EQ(config.head_dim_v(), 512);
  EXPECT_EQ(config.norm_eps, 1e-6);
  EXPECT_EQ(config.cell_eps, 1e-6);
  EXPECT_EQ(config.gate_soft_cap, 15.0);
  EXPECT_EQ(config.output_logit_soft_cap, 30.0);
  EXPECT_FALSE(config.use_bias);
  EXPECT_FALSE(config.tie_word_embeddings);
  EXPECT_TRUE(config.add_out_norm);
  EXPECT_EQ(config.bos_token_id, 0);
  EXPECT_THAT(config.eos_token_ids, ElementsAre(2));
  EXPECT_EQ(config.pad_token_id, 1);
  EXPECT_EQ(config.chunk_size, 64);
  EXPECT_EQ(config.weight_mode, "single");
}

TEST(ModelConfig, TheStructsOwnDefaultsEqualThoseOfAnEmptyConfiguration) {
  const ModelConfig parsed = parse(R"({"model_type": "xlstm"})");
  const ModelConfig defaults;
  EXPECT_EQ(parsed.qk_dim, defaults.qk_dim);
  EXPECT_EQ(parsed.v_dim, defaults.v_dim);
  EXPECT_EQ(parsed.ffn_dim, defaults.ffn_dim);
}

TEST(ModelConfig, ReadsEveryKey) {
  const ModelConfig config = parse(R"({
    "model_type": "xlstm", "vocab_size": 160, "hidden_size": 128, "num_hidden_layers": 3, "num_heads": 2,
    "qk_dim_factor": 1.0, "v_dim_factor": 2.0, "ffn_proj_factor": 1.5, "ffn_round_up_to_multiple_of": 100,
    "norm_eps": 1e-5, "eps": 1e-4, "gate_soft_cap": null, "output_logit_soft_cap": 12, "use_bias": true,
    "tie_word_embeddings": true, "add_out_norm": false, "bos_token_id": 5, "eos_token_id": [3, 4],
    "pad_token_id": 7, "chunk_size": 16, "weight_mode": "fused", "torch_dtype": "bfloat16",
    "chunkwise_kernel": "chunkwise--triton_xl_chunk", "sequence_kernel": "native_sequence__triton",
    "step_kernel": "triton", "something_new": {"a": [1]}})");
  EXPECT_EQ(config.vocab_size, 160);
  EXPECT_EQ(config.embedding_dim, 128);
  EXPECT_EQ(config.num_blocks, 3);
  EXPECT_EQ(config.num_heads, 2);
  EXPECT_EQ(config.qk_dim, 128);
  EXPECT_EQ(config.v_dim, 256);
  EXPECT_EQ(config.ffn_dim, 200);
  EXPECT_EQ(config.norm_eps, 1e-5);
  EXPECT_EQ(config.cell_eps, 1e-4);
  EXPECT_EQ(config.gate_soft_cap, std::nullopt);
  EXPECT_EQ(config.output_logit_soft_cap, 12.0);
  EXPECT_TRUE(config.use_bias);
  EXPECT_TRUE(config.tie_word_embeddings);
  EXPECT_FALSE(config.add_out_norm);
  EXPECT_EQ(config.bos_token_id, 5);
  EXPECT_THAT(config.eos_token_ids, ElementsAre(3, 4));
  EXPECT_EQ(config.pad_token_id, 7);
  EXPECT_EQ(config.chunk_size, 16);
  EXPECT_EQ(config.weight_mode, "fused");
  EXPECT_EQ(config.dtype, "bfloat16");
  EXPECT_EQ(config.chunkwise_kernel, "chunkwise--triton_xl_chunk");
  EXPECT_EQ(config.sequence_kernel, "native_sequence__triton");
  EXPECT_EQ(config.step_kernel, "triton");
}

TEST(ModelConfig, NullMeansNotGivenExceptForCaps) {
  const ModelConfig config = parse(R"({"model_type": "xlstm", "hidden_size": null, "embedding_dim": 1024,
    "num_blocks": null, "num_hidden_layers": 24, "pad_token_id": null, "output_logit_soft_cap": null})");
  EXPECT_EQ(config.embedding_dim, 1024);
  EXPECT_EQ(config.num_blocks, 24);
  EXPECT_EQ(config.pad_token_id, 1);
  EXPECT_EQ(config.output_logit_soft_cap, std::nullopt);
  EXPECT_THAT(parse_xlstm({{"eos_token_id", json::array()}}).eos_token_ids, IsEmpty());
}

TEST(ModelConfig, TheFfnWidthRoundsTheIntegerPartUp) {
  const std::vector<std::pair<int64_t, int64_t>> widths = {{4096, 10944}, {2048, 5504}, {1024, 2752},
                                                           {512, 1408},   {768, 2048},  {64, 192}};
  for (const auto& [embedding_dim, ffn_dim] : widths) {
    EXPECT_EQ(parse_xlstm({{"embedding_dim", embedding_dim}}).ffn_dim, ffn_dim) << embedding_dim;
  }
}

TEST(ModelConfig, NxConfigurationsNeedNoModelType) {
  const ModelConfig config =
      parse(R"({"embedding_dim": 128, "num_heads": 2, "num_blocks": 3, "vocab_size": 160, "mode": "train"})");
  EXPECT_EQ(config.num_blocks, 3);
}

TEST(ModelConfig, OtherModelsAreRefusedByName) {
  EXPECT_THAT(parse_error({{"model_type", "llama"}}),
              AllOf(HasSubstr("model_type (dir/config.json)"), HasSubstr("\"xlstm\""), HasSubstr("got \"llama\"")));
  EXPECT_THAT(parse_error({{"model_type", "xlstm_lm"}}), HasSubstr("got \"xlstm_lm\""));
  EXPECT_THAT(parse_error({{"model_type", 3}}), HasSubstr("model_type"));
  EXPECT_THAT(parse_error(json::object()), HasSubstr("got none"));
  EXPECT_THAT(parse_error({{"hidden_size", 768}, {"num_attention_heads", 12}}), HasSubstr("got none"));
  EXPECT_THAT(parse_error({{"embedding_dim", 64}, {"num_heads", 4}, {"num_blocks", 2}, {"slstm_at", {1}}}),
              HasSubstr("mixed mLSTM/sLSTM"));
  EXPECT_THAT(parse_error(json::array()), HasSubstr("a JSON object"));
}

TEST(ModelConfig, ModelsWithOtherMathematicsAreRefused) {
  const std::vector<std::pair<json, std::string>> cases = {
      {{{"add_qk_norm", true}}, "add_qk_norm"},
      {{{"add_post_norm", true}}, "add_post_norm"},
      {{{"chunkwise_kernel", "chunkwise--native_siging"}}, "sigmoid input gate"},
      {{{"sequence_kernel", "native_sequence__triton_siging"}}, "sequence_kernel"},
      {{{"step_kernel", "native_siging"}}, "step_kernel"},
      {{{"quantization", {{"bits", 4}}}}, "quantization.version"},
      {{{"quantization", {{"version", 1}, {"bits", 2}}}}, "quantization.bits"},
      {{{"quantization_config", {{"load_in_4bit", true}}}}, "quantization_config"}};
  for (auto [config, message] : cases) {
    SCOPED_TRACE(config.dump());
    config["model_type"] = "xlstm";
    EXPECT_THAT(parse_error(config), HasSubstr(message));
  }
  EXPECT_NO_THROW(parse_xlstm({{"add_qk_norm", false}, {"add_post_norm", false}, {"quantization", nullptr}}));
}

TEST(ModelConfig, WrongTypesAndValuesOutOfRangeAreRefusedByKey) {
  const std::vector<std::pair<const char*, json>> cases = {{"vocab_size", "160"},
                                                           {"vocab_size", 0},
                                                           {"vocab_size", -5},
                                                           {"vocab_size", 1.5},
                                                           {"vocab_size", 1ULL << 40},
                                                           {"embedding_dim", 0},
                                                           {"embedding_dim", true},
                                                           {"hidden_size", -1},
                                                           {"num_blocks", 0},
                                                           {"num_hidden_layers", {}},
                                                           {"num_blocks", 1ULL << 63},
                                                           {"num_heads", 0},
                                                           {"qk_dim_factor", 0},
                                                           {"qk_dim_factor", -0.5},
                                                           {"qk_dim_factor", 1e300},
                                                           {"v_dim_factor", "1"},
                                                           {"ffn_proj_factor", 0},
                                                           {"ffn_proj_factor", 1e-9},
                                                           {"norm_eps", -1e-6},
                                                           {"norm_eps", "small"},
                                                           {"eps", 0},
                                                           {"gate_soft_cap", 0},
                                                           {"gate_soft_cap", "15"},
                                                           {"output_logit_soft_cap", -30},
                                                           {"use_bias", 1},
                                                           {"tie_word_embeddings", "yes"},
                                                           {"add_out_norm", 0},
                                                           {"bos_token_id", -1},
                                                           {"bos_token_id", 50304},
                                                           {"eos_token_id", "2"},
                                                           {"eos_token_id", {2, -1}},
                                                           {"pad_token_id", 99999},
                                                           {"chunk_size", 0},
                                                           {"weight_mode", "triple"},
                                                           {"weight_mode", 1},
                                                           {"dtype", 32},
                                                           {"chunkwise_kernel", 1},
                                                           {"add_qk_norm", "true"},
                                                           {"ffn_round_up_to_multiple_of", 0}};
  for (const auto& [key, value] : cases) {
    if (value.is_null()) continue;
    SCOPED_TRACE(cat(key, " = ", value.dump()));
    EXPECT_THAT(parse_error({{"model_type", "xlstm"}, {key, value}}),
                AllOf(HasSubstr(cat(key, " (dir/config.json): expected ")), HasSubstr(", got ")));
  }
}

TEST(ModelConfig, SizesThatContradictEachOtherAreRefused) {
  EXPECT_THAT(parse_error({{"model_type", "xlstm"}, {"embedding_dim", 128}, {"hidden_size", 64}}),
              AllOf(HasSubstr("hidden_size"), HasSubstr("128, as embedding_dim"), HasSubstr("got 64")));
  EXPECT_THAT(parse_error({{"model_type", "xlstm"}, {"num_blocks", 2}, {"num_hidden_layers", 3}}),
              HasSubstr("num_hidden_layers"));
  EXPECT_THAT(parse_error({{"model_type", "xlstm"}, {"embedding_dim", 128}, {"num_heads", 3}}),
              AllOf(HasSubstr("num_heads 3 divides"), HasSubstr("got 64")));
  EXPECT_NO_THROW(parse_xlstm({{"embedding_dim", 128}, {"hidden_size", 128}}));
}

}  // namespace
}  // namespace xlstm
