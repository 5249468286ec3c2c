#include "xlstm/model/checkpoint_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "tests/model/editable_checkpoint.h"
#include "xlstm/core/str.h"

namespace xlstm {
namespace {

namespace fs = std::filesystem;
using test::EditableCheckpoint;
using test::TempDir;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

CheckpointLayout layout_of(const EditableCheckpoint& checkpoint) {
  TempDir dir;
  checkpoint.write(dir.path());
  return resolve_layout(Checkpoint(dir.path()));
}

EditableCheckpoint zoo(const std::string& name) {
  return EditableCheckpoint(test::zoo_dir(name));
}

const std::string kBlock = "backbone.blocks.0.";
const std::string kLayer = kBlock + "mlstm_layer.";

// Every tensor of the checkpoint stands in exactly one parameter.
void expect_all_used_once(const Checkpoint& checkpoint, const CheckpointLayout& layout) {
  std::multiset<std::string> used;
  for (const NamedParameter& named : list_parameters(layout)) {
    used.insert(named.parameter->sources.begin(), named.parameter->sources.end());
  }
  const std::vector<std::string> names = checkpoint.names();
  EXPECT_EQ(used, std::multiset<std::string>(names.begin(), names.end()));
}

TEST(CheckpointLayout, EveryZooCheckpointResolvesCompletely) {
  for (const char* name :
       {"single_f32", "fused_f32", "bias_f32", "heads3_bf16", "tied_qk1_f32", "caps_f16", "sharded_f32"}) {
    SCOPED_TRACE(name);
    const Checkpoint checkpoint(test::zoo_dir(name));
    const CheckpointLayout layout = resolve_layout(checkpoint);
    EXPECT_THAT(layout.problems, IsEmpty());
    EXPECT_NO_THROW(require_complete(layout, name));
    expect_all_used_once(checkpoint, layout);
    EXPECT_EQ(layout.config.dtype, checkpoint.config().at("dtype").get<std::string>());
  }
}

TEST(CheckpointLayout, TheBundledModelHasItsKnownSize) {
  const Checkpoint checkpoint(test::tales_dir());
  const CheckpointLayout layout = resolve_layout(checkpoint);
  EXPECT_THAT(layout.problems, IsEmpty());
  EXPECT_EQ(static_cast<uint64_t>(parameter_count(layout)) * 2, checkpoint.total_bytes());
  EXPECT_EQ(layout.config.ffn_dim, 704);
  EXPECT_EQ(layout.config.head_dim_qk(), 32);
  EXPECT_EQ(layout.config.head_dim_v(), 64);
  EXPECT_EQ(layout.blocks.size(), 8U);
}

TEST(CheckpointLayout, SingleModeConcatenatesInTheDocumentedOrder) {
  const CheckpointLayout layout = resolve_layout(Checkpoint(test::zoo_dir("single_f32")));
  const BlockParameters& block = layout.blocks.at(0);
  EXPECT_THAT(block.qkvo.sources, ElementsAre(kLayer + "q.weight", kLayer + "k.weight", kLayer + "v.weight",
                                              kLayer + "ogate_preact.weight"));
  EXPECT_THAT(block.qkvo.shape, ElementsAre(384, 128));
  EXPECT_THAT(block.gates.sources, ElementsAre(kLayer + "igate_preact.weight", kLayer + "fgate_preact.weight"));
  EXPECT_THAT(block.gates.shape, ElementsAre(4, 128));
  EXPECT_THAT(block.gates_bias.sources, ElementsAre(kLayer + "igate_preact.bias", kLayer + "fgate_preact.bias"));
  EXPECT_THAT(block.gates_bias.shape, ElementsAre(4));
  EXPECT_THAT(block.ffn_gate_up.sources,
              ElementsAre(kBlock + "ffn.proj_up_gate.weight", kBlock + "ffn.proj_up.weight"));
  EXPECT_THAT(block.ffn_gate_up.shape, ElementsAre(768, 128));
  EXPECT_THAT(block.ffn_down.shape, ElementsAre(128, 384));
  EXPECT_THAT(block.out_proj.shape, ElementsAre(128, 128));
  EXPECT_THAT(block.multihead_norm.shape, ElementsAre(128));
  EXPECT_FALSE(block.qkvo_bias.present());
  EXPECT_THAT(layout.embedding.shape, ElementsAre(160, 128));
  EXPECT_THAT(layout.head.sources, ElementsAre("lm_head.weight"));
  EXPECT_FALSE(layout.head_is_embedding);
}

TEST(CheckpointLayout, FusedModeIsSeenInTheTensorsWhateverTheConfigSays) {
  EditableCheckpoint checkpoint = zoo("fused_f32");
  checkpoint.config["weight_mode"] = "single";
  const CheckpointLayout layout = layout_of(checkpoint);
  EXPECT_THAT(layout.problems, IsEmpty());
  EXPECT_THAT(layout.blocks.at(1).qkvo.sources, ElementsAre("backbone.blocks.1.mlstm_layer.qkv_opreact.weight"));
  EXPECT_THAT(layout.blocks.at(1).gates.shape, ElementsAre(4, 128));
  EXPECT_EQ(layout.config.qk_dim, 64);
}

TEST(CheckpointLayout, BiasesAreMappedBesideTheirWeights) {
  const CheckpointLayout layout = resolve_layout(Checkpoint(test::zoo_dir("bias_f32")));
  const BlockParameters& block = layout.blocks.at(1);
  EXPECT_THAT(block.qkvo_bias.shape, ElementsAre(384));
  EXPECT_EQ(block.qkvo_bias.sources.size(), 4U);
  EXPECT_THAT(block.ffn_gate_up_bias.shape, ElementsAre(768));
  EXPECT_THAT(block.norm_mlstm_bias.sources, ElementsAre("backbone.blocks.1.norm_mlstm.bias"));
  EXPECT_FALSE(layout.out_norm_bias.present());
}

TEST(CheckpointLayout, NxNamesResolve) {
  EditableCheckpoint checkpoint = zoo("bias_f32");
  checkpoint.rename_all("backbone.", "");
  checkpoint.rename("embeddings.weight", "embedding.weight");
  checkpoint.zeros("out_norm.bias", {128});
  checkpoint.config.erase("model_type");
  const CheckpointLayout layout = layout_of(checkpoint);
  EXPECT_THAT(layout.problems, IsEmpty());
  EXPECT_THAT(layout.embedding.sources, ElementsAre("embedding.weight"));
  EXPECT_THAT(layout.out_norm_bias.shape, ElementsAre(128));
}

TEST(CheckpointLayout, OlderQueryKeyValueNamesResolve) {
  EditableCheckpoint checkpoint = zoo("bias_f32");
  for (const auto& [from, to] : {std::pair{".q.", ".query."}, std::pair{".k.", ".key."}, std::pair{".v.", ".value."}}) {
    checkpoint.rename_all(from, to);
  }
  const CheckpointLayout layout = layout_of(checkpoint);
  EXPECT_THAT(layout.problems, IsEmpty());
  EXPECT_EQ(layout.blocks.at(0).qkvo.sources.at(1), kLayer + "key.weight");
  EXPECT_EQ(layout.blocks.at(0).qkvo_bias.sources.at(2), kLayer + "value.bias");
}

TEST(CheckpointLayout, HeadlessTiedModelsWithoutPrefixResolve) {
  EditableCheckpoint checkpoint = zoo("tied_qk1_f32");
  checkpoint.rename_all("backbone.", "");
  const CheckpointLayout layout = layout_of(checkpoint);
  EXPECT_THAT(layout.problems, IsEmpty());
  EXPECT_TRUE(layout.head_is_embedding);
  EXPECT_FALSE(layout.head.present());
}

TEST(CheckpointLayout, TheHeadIsUsedIfPresentAndTiedOnlyIfTheConfigSaysSo) {
  EditableCheckpoint both = zoo("single_f32");
  both.config["tie_word_embeddings"] = true;
  EXPECT_FALSE(layout_of(both).head_is_embedding);
  EditableCheckpoint neither = zoo("tied_qk1_f32");
  neither.config["tie_word_embeddings"] = false;
  EXPECT_THAT(layout_of(neither).problems, ElementsAre(AllOf(HasSubstr("lm_head.weight"), HasSubstr("[160, 64]"))));
}

TEST(CheckpointLayout, TheLastNormIsLeftOutOnlyIfTensorAndConfigAgree) {
  EditableCheckpoint checkpoint = zoo("single_f32");
  checkpoint.config["add_out_norm"] = false;
  CheckpointLayout layout = layout_of(checkpoint);
  EXPECT_THAT(layout.problems, IsEmpty());
  EXPECT_TRUE(layout.out_norm.present()) << "a weight that is there is used";
  EXPECT_TRUE(layout.config.add_out_norm);
  checkpoint.tensors.erase("backbone.out_norm.weight");
  layout = layout_of(checkpoint);
  EXPECT_THAT(layout.problems, IsEmpty());
  EXPECT_FALSE(layout.out_norm.present());
  EXPECT_FALSE(layout.config.add_out_norm);
  checkpoint.config["add_out_norm"] = true;
  EXPECT_THAT(layout_of(checkpoint).problems, ElementsAre(HasSubstr("out_norm.weight")));
}

TEST(CheckpointLayout, ShapesDecideWhatTheConfigDoesNotState) {
  EditableCheckpoint checkpoint = zoo("single_f32");
  checkpoint.config = {{"model_type", "xlstm"}, {"qk_dim_factor", 0.25}, {"ffn_proj_factor", 1.0}};
  const CheckpointLayout layout = layout_of(checkpoint);
  EXPECT_THAT(layout.problems, IsEmpty());
  EXPECT_EQ(layout.config.vocab_size, 160);
  EXPECT_EQ(layout.config.embedding_dim, 128);
  EXPECT_EQ(layout.config.num_blocks, 2);
  EXPECT_EQ(layout.config.num_heads, 2);
  EXPECT_EQ(layout.config.qk_dim, 64);
  EXPECT_EQ(layout.config.v_dim, 128);
  EXPECT_EQ(layout.config.ffn_dim, 384);
}

struct Damage {
  std::string why;
  std::string zoo;
  std::function<void(EditableCheckpoint&)> apply;
  std::vector<std::string> first_problem;  // texts that it must hold
  size_t problems = 1;
};

std::vector<Damage> damages() {
  using E = EditableCheckpoint;
  return {
      {"missing tensor",
       "single_f32",
       [](E& e) { e.tensors.erase(kLayer + "v.weight"); },
       {kLayer + "v.weight", "shape [128, 128]", "no such tensor"}},
      {"missing gate bias",
       "single_f32",
       [](E& e) { e.tensors.erase(kLayer + "fgate_preact.bias"); },
       {kLayer + "fgate_preact.bias", "shape [2]"}},
      {"missing embedding",
       "single_f32",
       [](E& e) { e.tensors.erase("backbone.embeddings.weight"); },
       {"backbone.embeddings.weight", "[160, 128]"}},
      {"unexpected tensor",
       "single_f32",
       [](E& e) { e.zeros("backbone.extra.weight", {3}); },
       {"backbone.extra.weight", "no tensor of this name"}},
      {"unexpected head bias", "single_f32", [](E& e) { e.zeros("lm_head.bias", {160}); }, {"lm_head.bias"}},
      {"tensor without the prefix",
       "single_f32",
       [](E& e) { e.rename("backbone.out_norm.weight", "out_norm.weight"); },
       {"backbone.out_norm.weight", "no such tensor"},
       2},
      {"both q and query",
       "single_f32",
       [](E& e) {
         e.zeros(kLayer + "query.weight", {64, 128});
       },
       {kLayer + "query.weight", "no tensor of this name"}},
      {"single beside fused",
       "fused_f32",
       [](E& e) {
         e.zeros(kLayer + "k.weight", {64, 128});
       },
       {kLayer + "k.weight", "no tensor of this name"}},
      {"key narrower than query",
       "single_f32",
       [](E& e) {
         e.zeros(kLayer + "k.weight", {60, 128});
       },
       {kLayer + "k.weight", "shape [64, 128]", "got [60, 128]"}},
      {"query narrower than key",
       "single_f32",
       [](E& e) {
         e.zeros(kLayer + "q.weight", {60, 128});
       },
       {kLayer + "q.weight", "shape [64, 128]", "got [60, 128]"}},
      {"FFN gate and up differ",
       "single_f32",
       [](E& e) {
         e.zeros(kBlock + "ffn.proj_up_gate.weight", {320, 128});
       },
       {"ffn.proj_up_gate.weight", "shape [384, 128]"}},
      {"transposed matrix",
       "single_f32",
       [](E& e) {
         e.zeros(kBlock + "ffn.proj_down.weight", {384, 128});
       },
       {"ffn.proj_down.weight", "shape [128, 384]", "got [384, 128]"}},
      {"head norm per head",
       "single_f32",
       [](E& e) {
         e.zeros(kLayer + "multihead_norm.weight", {2, 64});
       },
       {"multihead_norm.weight", "shape [128]", "got [2, 64]"}},
      {"fused rows odd",
       "fused_f32",
       [](E& e) {
         e.zeros(kLayer + "qkv_opreact.weight", {385, 128});
       },
       {"qkv_opreact.weight", "shape [384, 128]"}},
      {"scalar embedding",
       "single_f32",
       [](E& e) { e.zeros("backbone.embeddings.weight", {}); },
       {"backbone.embeddings.weight", "got []"}},
      {"empty tensor",
       "single_f32",
       [](E& e) {
         e.zeros("lm_head.weight", {int64_t{1} << 40, 0});
       },
       {"lm_head.weight", "shape [160, 128]"}},
      {"float64 tensor",
       "single_f32",
       [](E& e) {
         e.zeros("lm_head.weight", {160, 128}, DType::F64);
       },
       {"lm_head.weight", "F32, BF16 or F16", "F64"}},
      {"int8 tensor",
       "single_f32",
       [](E& e) {
         e.zeros(kLayer + "q.weight", {64, 128}, DType::I8);
       },
       {kLayer + "q.weight", "I8"}},
      {"config says another vocabulary",
       "single_f32",
       [](E& e) { e.config["vocab_size"] = 128; },
       {"vocab_size", "config.json", "160", "got 128"}},
      {"config says another width",
       "single_f32",
       [](E& e) { e.config["embedding_dim"] = e.config["hidden_size"] = 256; },
       {"embedding_dim", "128", "got 256"}},
      {"config says other heads",
       "single_f32",
       [](E& e) { e.config["num_heads"] = 4; },
       {"num_heads", "expected 2", "got 4"}},
      {"heads do not divide",
       "single_f32",
       [](E& e) {
         e.config["num_heads"] = 3;
         e.config["embedding_dim"] = e.config["hidden_size"] = 128;
         e.config["qk_dim_factor"] = e.config["v_dim_factor"] = 0.375;
         for (const char* block : {"0", "1"}) {
           for (const char* gate : {"igate", "fgate"}) {
             const std::string name = cat("backbone.blocks.", block, ".mlstm_layer.", gate, "_preact");
             e.zeros(name + ".weight", {3, 128});
             e.zeros(name + ".bias", {3});
           }
         }
       },
       {"query and key width", "multiple of num_heads 3", "got 64"},
       2},
      {"biases that the config does not announce",
       "bias_f32",
       [](E& e) { e.config["use_bias"] = false; },
       {"norm_mlstm.bias", "use_bias is false"},
       22},
      {"announced biases that are absent",
       "single_f32",
       [](E& e) { e.config["use_bias"] = true; },
       {"norm_mlstm.bias", "no such tensor"},
       22},
      {"one bias absent",
       "bias_f32",
       [](E& e) { e.tensors.erase(kLayer + "k.bias"); },
       {kLayer + "k.bias", "shape [64]", "no such tensor"}},
      {"config says more blocks",
       "single_f32",
       [](E& e) { e.config["num_blocks"] = e.config["num_hidden_layers"] = 1 << 20; },
       {"number of blocks", "1048576", "2 with tensors; none for block 2"}},
      {"config says fewer blocks",
       "single_f32",
       [](E& e) { e.config["num_blocks"] = e.config["num_hidden_layers"] = 1; },
       {"number of blocks", "expected 1", "block 1"}},
      {"a gap between blocks",
       "single_f32",
       [](E& e) {
         e.config.erase("num_blocks");
         e.config.erase("num_hidden_layers");
         e.rename_all("blocks.1.", "blocks.99999999.");
       },
       {"number of blocks", "without a gap", "99999999"}},
      {"odd spelling of a block",
       "single_f32",
       [](E& e) { e.rename(kLayer + "q.weight", "backbone.blocks.00.mlstm_layer.q.weight"); },
       {kLayer + "q.weight", "no such tensor"},
       2},
      {"no blocks at all",
       "single_f32",
       [](E& e) {
         e.config.erase("num_blocks");
         e.config.erase("num_hidden_layers");
         std::erase_if(e.tensors, [](const auto& t) { return t.first.find("blocks.") != std::string::npos; });
       },
       {"number of blocks", "at least 1"}},
  };
}

TEST(CheckpointLayout, EachDefectIsReportedWithItsTensor) {
  for (const Damage& damage : damages()) {
    SCOPED_TRACE(damage.why);
    EditableCheckpoint checkpoint = zoo(damage.zoo);
    damage.apply(checkpoint);
    const CheckpointLayout layout = layout_of(checkpoint);
    ASSERT_FALSE(layout.problems.empty());
    EXPECT_EQ(layout.problems.size(), damage.problems) << testing::PrintToString(layout.problems);
    for (const std::string& text : damage.first_problem) EXPECT_THAT(layout.problems[0], HasSubstr(text));
    const std::string error =
        test::error_text(ExitCode::kCheckpoint, [&] { require_complete(layout, "the-directory"); });
    EXPECT_THAT(error, HasSubstr(layout.problems[0]));
    if (damage.problems > 1) {
      EXPECT_THAT(error,
                  AllOf(HasSubstr(cat("and ", damage.problems - 1, " more problem")), HasSubstr("the-directory")));
    }
  }
}

TEST(CheckpointLayout, AnUnusableConfigurationThrows) {
  EditableCheckpoint checkpoint = zoo("single_f32");
  checkpoint.config["model_type"] = "llama";
  EXPECT_THAT(test::error_text(ExitCode::kCheckpoint, [&] { static_cast<void>(layout_of(checkpoint)); }),
              AllOf(HasSubstr("config.json"), HasSubstr("llama")));
}

TEST(CheckpointLayout, ParametersAreListedByReadableNames) {
  const CheckpointLayout layout = resolve_layout(Checkpoint(test::zoo_dir("heads3_bf16")));
  std::vector<std::string> names;
  for (const NamedParameter& named : list_parameters(layout)) names.push_back(named.name);
  EXPECT_THAT(names, ElementsAre("embedding", "blocks.0.norm_mlstm", "blocks.0.qkvo", "blocks.0.gates",
                                 "blocks.0.gates_bias", "blocks.0.multihead_norm", "blocks.0.out_proj",
                                 "blocks.0.norm_ffn", "blocks.0.ffn_gate_up", "blocks.0.ffn_down", "out_norm", "head"));
}

}  // namespace
}  // namespace xlstm
