#include "xlstm/io/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/io/io_test_support.h"
#include "xlstm/core/str.h"

namespace xlstm {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::error_text;
using test::TempDir;
using test::write_bytes;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

std::string open_error(const fs::path& dir) {
  return error_text(ExitCode::kCheckpoint, [&] { Checkpoint checkpoint(dir); });
}

// Writes a file with U8 tensors of the given names, four bytes each.
void write_shard(const fs::path& path, const std::vector<std::string>& names) {
  const std::string data = "abcd";
  SafetensorsWriter writer;
  for (const std::string& name : names) {
    writer.add(name, DType::U8, {4}, std::as_bytes(std::span(data.data(), data.size())));
  }
  writer.write(path);
}

void write_index(const fs::path& dir, const json& weight_map) {
  write_bytes(dir / "model.safetensors.index.json", json{{"weight_map", weight_map}}.dump());
}

TEST(Checkpoint, OpensTheBundledShardedModel) {
  const Checkpoint checkpoint(test::tales_dir());
  EXPECT_EQ(checkpoint.files().size(), 2U);
  EXPECT_EQ(checkpoint.names().size(), 123U);
  EXPECT_TRUE(checkpoint.has_tokenizer());
  EXPECT_EQ(checkpoint.config().at("embedding_dim"), 256);
  EXPECT_GT(checkpoint.total_bytes(), 17'000'000U);
  EXPECT_EQ(checkpoint.tensor("lm_head.weight").shape, (std::vector<int64_t>{4096, 256}));
  EXPECT_EQ(checkpoint.file_of("lm_head.weight").parent_path(), test::tales_dir());
  EXPECT_EQ(checkpoint.find("lm_head"), nullptr);
  checkpoint.drop_pages("lm_head.weight");
}

TEST(Checkpoint, OpensSingleFilesAndNumberedShards) {
  TempDir dir;
  write_bytes(dir / "config.json", "{}");
  write_shard(dir / "model_0.safetensors", {"b"});
  write_shard(dir / "model_1.safetensors", {"a"});
  EXPECT_THAT(Checkpoint(dir.path()).names(), ElementsAre("a", "b"));
  write_shard(dir / "model.safetensors", {"c"});
  const Checkpoint single(dir.path());
  EXPECT_THAT(single.names(), ElementsAre("c")) << "model.safetensors goes first";
  EXPECT_EQ(single.total_bytes(), 4U);
  EXPECT_FALSE(single.has_tokenizer());
}

TEST(Checkpoint, StaysUsableAfterAMove) {
  Checkpoint first(test::zoo_dir("sharded_f32"));
  const std::string fingerprint = first.fingerprint();
  const Checkpoint second(std::move(first));
  EXPECT_EQ(second.fingerprint(), fingerprint);
}

TEST(Checkpoint, AHubNameSaysHowToDownload) {
  EXPECT_THAT(open_error("NX-AI/xLSTM-7b"),
              AllOf(HasSubstr("NX-AI/xLSTM-7b"), HasSubstr("scripts/download_model.sh NX-AI/xLSTM-7b --to DIR")));
  EXPECT_THAT(open_error("/no/such/place"), AllOf(HasSubstr("nothing at this path"), Not(HasSubstr("download"))));
  EXPECT_THAT(open_error("./missing"), Not(HasSubstr("download")));
  TempDir dir;
  fs::create_directories(dir / "models");
  const fs::path typo = fs::relative(dir / "models").parent_path() / "models/xlstm-tale";
  EXPECT_THAT(open_error(typo), Not(HasSubstr("download"))) << "a misspelt name in a directory that exists";
}

TEST(Checkpoint, ADirectoryThatLacksFilesSaysWhatFetchesThem) {
  TempDir parent;
  const fs::path dir = parent / "it's here";
  fs::create_directory(dir);
  const std::string command =
      cat("scripts/download_model.sh OWNER/NAME --to '", parent.path().string(), "/it'\\''s here' fetches");
  EXPECT_THAT(open_error(dir), AllOf(HasSubstr("an empty directory"), HasSubstr(command)));
  write_bytes(dir / "config.json", "{}");
  EXPECT_THAT(open_error(dir), AllOf(HasSubstr("none of them"), HasSubstr(command)));
  write_index(dir, {{"a", "s1.safetensors"}});
  EXPECT_THAT(open_error(dir), AllOf(HasSubstr("no s1.safetensors"), HasSubstr(command)));
  fs::remove(dir / "model.safetensors.index.json");
  write_shard(dir / "model_1.safetensors", {"a"});
  EXPECT_THAT(open_error(dir), AllOf(HasSubstr("no model_0.safetensors"), HasSubstr(command)));
  write_shard(dir / "model_0.safetensors", {"b"});
  fs::remove(dir / "config.json");
  EXPECT_THAT(open_error(dir), AllOf(HasSubstr("config.json"), HasSubstr(command)));
}

TEST(Checkpoint, AFileInsteadOfADirectoryIsExplained) {
  TempDir dir;
  write_bytes(dir / "model.gguf", "GGUF");
  write_bytes(dir / "model.safetensors", "x");
  EXPECT_THAT(open_error(dir / "model.gguf"),
              AllOf(HasSubstr("GGUF file, which is not read"), HasSubstr("config.json")));
  EXPECT_THAT(open_error(dir / "model.safetensors"), HasSubstr("name the directory it is in"));
}

TEST(Checkpoint, ADirectoryWithoutReadableWeightsSaysWhatIsRead) {
  TempDir dir;
  EXPECT_THAT(open_error(dir.path()), AllOf(HasSubstr("model.safetensors"), HasSubstr("an empty directory")));
  write_bytes(dir / "config.json", "{}");
  EXPECT_THAT(open_error(dir.path()), HasSubstr("none of them"));
  write_bytes(dir / "pytorch_model.bin", "x");
  EXPECT_THAT(open_error(dir.path()), HasSubstr("only pytorch_model.bin"));
  write_bytes(dir / "model-q4.gguf", "x");
  EXPECT_THAT(open_error(dir.path()), HasSubstr("GGUF files are not read"));
  write_bytes(dir / "model-00001-of-00002.safetensors", "x");
  EXPECT_THAT(open_error(dir.path()), HasSubstr("shards need their model.safetensors.index.json"));
}

TEST(Checkpoint, ConfigJsonIsRequiredAndStrict) {
  TempDir dir;
  write_shard(dir / "model.safetensors", {"a"});
  EXPECT_THAT(open_error(dir.path()), HasSubstr("config.json, got no such file"));
  write_bytes(dir / "config.yaml", "embedding_dim: 4\n");
  EXPECT_THAT(open_error(dir.path()), HasSubstr("only config.yaml; write the same keys as JSON"));
  const std::vector<std::pair<std::string, std::string>> bad = {{"", "valid JSON"},
                                                                {"{", "valid JSON"},
                                                                {"[]", "a JSON object, got a list"},
                                                                {"3", "got 3"},
                                                                {"{\"a\":1,\"a\":2}", "each key once"},
                                                                {"{\"a\":1} x", "valid JSON"},
                                                                {"null", "got null"},
                                                                {std::string("{}\0{", 4), "NUL"}};
  for (const auto& [text, message] : bad) {
    SCOPED_TRACE(text);
    write_bytes(dir / "config.json", text);
    EXPECT_THAT(open_error(dir.path()), AllOf(HasSubstr("config.json"), HasSubstr(message)));
  }
}

TEST(Checkpoint, NumberedShardsMustBeComplete) {
  TempDir dir;
  write_bytes(dir / "config.json", "{}");
  write_shard(dir / "model_0.safetensors", {"a"});
  write_shard(dir / "model_2.safetensors", {"b"});
  EXPECT_THAT(open_error(dir.path()), HasSubstr("no model_1.safetensors"));
  write_shard(dir / "model_1.safetensors", {"a"});
  EXPECT_THAT(open_error(dir.path()), AllOf(HasSubstr("tensor a"), HasSubstr("another one in model_0.safetensors")));
}

TEST(Checkpoint, TheIndexMustMatchItsShards) {
  TempDir dir;
  write_bytes(dir / "config.json", "{}");
  write_shard(dir / "s1.safetensors", {"a", "b"});
  write_shard(dir / "s2.safetensors", {"c"});
  const json good = {{"a", "s1.safetensors"}, {"b", "s1.safetensors"}, {"c", "s2.safetensors"}};
  write_index(dir.path(), good);
  EXPECT_THAT(Checkpoint(dir.path()).names(), ElementsAre("a", "b", "c"));

  json map = good;
  map["d"] = "s2.safetensors";
  write_index(dir.path(), map);
  EXPECT_THAT(open_error(dir.path()), AllOf(HasSubstr("tensor d"), HasSubstr("s2.safetensors, got no such tensor")));
  map = good;
  map["a"] = "s2.safetensors";
  write_index(dir.path(), map);
  EXPECT_THAT(open_error(dir.path()), AllOf(HasSubstr("tensor a"), HasSubstr("got it in s1.safetensors")));
  map = good;
  map.erase("b");
  write_index(dir.path(), map);
  EXPECT_THAT(open_error(dir.path()), AllOf(HasSubstr("tensor b"), HasSubstr("index.json names")));
  map = good;
  map["e"] = "s3.safetensors";
  map["f"] = "s4.safetensors";
  write_index(dir.path(), map);
  EXPECT_THAT(open_error(dir.path()), HasSubstr("no s3.safetensors, s4.safetensors"));
  write_shard(dir / "s2.safetensors", {"c", "a"});
  write_index(dir.path(), good);
  EXPECT_THAT(open_error(dir.path()), AllOf(HasSubstr("tensor a"), HasSubstr("another one in s1.safetensors")));
}

TEST(Checkpoint, AnIndexCannotLeadOutOfItsDirectory) {
  TempDir dir;
  fs::create_directories(dir / "model/sub");
  write_bytes(dir / "model/config.json", "{}");
  write_shard(dir / "outside.safetensors", {"a"});
  write_shard(dir / "model/sub/in.safetensors", {"a"});
  for (const std::string& name :
       {std::string("../outside.safetensors"), (dir / "outside.safetensors").string(),
        std::string("sub/in.safetensors"), std::string("..\\outside.safetensors"), std::string("."), std::string(".."),
        std::string(""), std::string("/etc/passwd"), std::string("x\0.safetensors", 14)}) {
    SCOPED_TRACE(name);
    write_index(dir / "model", {{"a", name}});
    EXPECT_THAT(open_error(dir / "model"), AllOf(HasSubstr("tensor a"), HasSubstr("in the same directory")));
  }
  write_index(dir / "model", {{"a", 3}});
  EXPECT_THAT(open_error(dir / "model"), AllOf(HasSubstr("tensor a"), HasSubstr("got 3")));
}

TEST(Checkpoint, AnIndexOfAnotherFormIsRefused) {
  TempDir dir;
  write_bytes(dir / "config.json", "{}");
  for (const char* text : {"{}", "{\"weight_map\": []}", "{\"weight_map\": {}}"}) {
    SCOPED_TRACE(text);
    write_bytes(dir / "model.safetensors.index.json", text);
    EXPECT_THAT(open_error(dir.path()), HasSubstr("weight_map"));
  }
  write_bytes(dir / "model.safetensors.index.json", R"({"weight_map":{"a":"s1.safetensors","a":"s2.safetensors"}})");
  EXPECT_THAT(open_error(dir.path()), HasSubstr("each key once"));
}

TEST(Checkpoint, DamagedShardsAreRefusedByName) {
  TempDir dir;
  fs::copy(test::zoo_dir("sharded_f32"), dir.path());
  const fs::path shard = dir / "model-00002-of-00003.safetensors";
  fs::resize_file(shard, fs::file_size(shard) - 1);
  EXPECT_THAT(open_error(dir.path()), AllOf(HasSubstr("model-00002-of-00003.safetensors"), HasSubstr("truncated")));
}

TEST(Fingerprint, DependsOnContentAndNotOnPlaceOrSharding) {
  const Checkpoint sharded(test::zoo_dir("sharded_f32"));
  const std::string expected = sharded.fingerprint();
  EXPECT_EQ(expected.size(), 16U);
  TempDir dir;
  SafetensorsWriter writer;
  for (const std::string& name : sharded.names()) {
    const TensorView& view = sharded.tensor(name);
    writer.add(name, view.dtype, view.shape, view.bytes);
  }
  writer.write(dir / "model.safetensors");
  json config = sharded.config();
  config["transformers_version"] = "0";
  config["gate_soft_cap"] = 15;
  write_bytes(dir / "config.json", config.dump());
  EXPECT_EQ(Checkpoint(dir.path()).fingerprint(), expected);

  config["gate_soft_cap"] = 14;
  write_bytes(dir / "config.json", config.dump());
  EXPECT_NE(Checkpoint(dir.path()).fingerprint(), expected) << "the configuration matters";
  EXPECT_NE(Checkpoint(test::zoo_dir("single_f32")).fingerprint(), expected) << "the weights matter";
}

TEST(Fingerprint, NoticesAChangeAtTheEndOfATensorAndAnotherName) {
  TempDir dir;
  write_bytes(dir / "config.json", "{}");
  std::vector<float> values(20000, 1.0F);
  const auto fingerprint = [&](const std::string& name, std::vector<int64_t> shape) {
    SafetensorsWriter writer;
    writer.add(name, DType::F32, std::move(shape), std::as_bytes(std::span(values)));
    writer.write(dir / "model.safetensors");
    return Checkpoint(dir.path()).fingerprint();
  };
  const std::string expected = fingerprint("a", {20000});
  EXPECT_EQ(fingerprint("a", {20000}), expected);
  EXPECT_NE(fingerprint("b", {20000}), expected);
  EXPECT_NE(fingerprint("a", {100, 200}), expected);
  values.back() = 2.0F;
  EXPECT_NE(fingerprint("a", {20000}), expected);
}

}  // namespace
}  // namespace xlstm
