// Which best.json is used, and what of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/config/config_tree.h"

namespace xlstm {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;
using test::ConfigTree;
using test::set_age;
using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;

class TunedResult : public testing::Test {
 protected:
  TunedResult() { tree.config("runtime_defaults.json", R"({"chunk_size": 7})"); }

  // The chunk size that a run gets; 7 if no tuned result sets it.
  int64_t chunk_size() { return (config = tree.merge()).opts.chunk_size; }

  ConfigTree tree;
  EffectiveConfig config;
};

TEST_F(TunedResult, SetsSchedulingOptionsFromEveryForm) {
  for (const char* text : {R"({"chunk_size": 33, "heads_per_band": 3})", R"({"ck": 33, "hpb": 3})",
                           R"({"params": {"chunk_size": 33, "heads_per_band": 3}})",
                           R"({"params": {"ck": 33, "hpb": 3}})", R"({"params": {"ck": 33}, "heads_per_band": 3})"}) {
    SCOPED_TRACE(text);
    const auto path = tree.best("one", text);
    EXPECT_EQ(chunk_size(), 33);
    EXPECT_EQ(config.opts.heads_per_band, 3);
    EXPECT_EQ(config.origin.at("heads_per_band"), path.string());
  }
}

TEST_F(TunedResult, SetsNothingElse) {
  tree.best("one", R"({"params": {"chunk_size": 33, "workers": 2, "streams": 1, "threads": 5, "temperature": 0.0,
      "unknown": {}, "device": "mps"}, "metrics": {"prefill_tok_s": 1.5}, "chunkwise_backend": "native", "seed": 3})");
  EXPECT_EQ(chunk_size(), 33);
  EXPECT_EQ(config.opts.workers, 2);
  EXPECT_EQ(config.opts.streams, 1);
  EXPECT_EQ(config.opts.threads, 5);
  EXPECT_EQ(config.opts.temperature, 0.8);
  EXPECT_EQ(config.opts.seed, -1);
  EXPECT_EQ(config.opts.device, "auto");
  EXPECT_EQ(config.opts.chunkwise_backend, "ray_compiled_steps");
}

TEST_F(TunedResult, NewestMatchingOneWins) {
  set_age(tree.best("a", R"({"chunk_size": 10})"), hours(3));
  set_age(tree.best("b", R"({"chunk_size": 11})"), hours(1));
  set_age(tree.best("c", R"({"chunk_size": 12})"), hours(2));
  EXPECT_EQ(chunk_size(), 11);
  set_age(tree.best("d", R"({"chunk_size": 13, "device": "mps"})"), minutes(1));
  EXPECT_EQ(chunk_size(), 11);
}

TEST_F(TunedResult, OfTheSameTimeTheGreatestFolderNameWins) {
  const auto time = std::filesystem::file_time_type::clock::now() - hours(1);
  for (const auto& [run, size] : {std::pair("20260101_2", 2), std::pair("20260101_3", 3), std::pair("20260101_1", 1)}) {
    std::filesystem::last_write_time(tree.best(run, "{\"chunk_size\": " + std::to_string(size) + "}"), time);
  }
  EXPECT_EQ(chunk_size(), 3);
}

TEST_F(TunedResult, MatchesTheRecordedDeviceBackendAndModel) {
  const std::vector<std::pair<std::string, bool>> cases = {
      {R"("device": "cpu")", true},
      {R"("device": "cuda")", false},
      {R"("device": "mps")", false},
      {R"("backend": "ray_compiled_steps")", true},
      {R"("backend": "chunkwise--ray_compiled_steps")", true},
      {R"("backend": "ray")", true},
      {R"("backend": "queued_compiled_steps")", false},
      {R"("backend": "queued")", false},
      {R"("model": {"embedding_dim": 64, "num_blocks": 2, "num_heads": 4, "vocab_size": 256})", true},
      {R"("model": {"embedding_dim": 64, "path": "x"})", true},
      {R"("model": {})", true},
      {R"("model": "xlstm-tales-8m")", true},
      {R"("model": {"embedding_dim": 65})", false},
      {R"("model": {"num_blocks": 3})", false},
      {R"("model": {"num_heads": 8})", false},
      {R"("model": {"embedding_dim": 64, "num_blocks": 2, "num_heads": 4, "vocab_size": 255})", false}};
  for (const auto& [field, matches] : cases) {
    SCOPED_TRACE(field);
    tree.best("one", "{\"chunk_size\": 33, " + field + "}");
    EXPECT_EQ(chunk_size(), matches ? 33 : 7);
    EXPECT_THAT(config.notes, Contains(HasSubstr(matches ? "matches without comparing" : "passed over")));
  }
}

TEST_F(TunedResult, ComparesTheDeviceKindOnly) {
  tree.request.resolve_device = [](const std::string&) { return "cuda:1"; };
  tree.best("one", R"({"chunk_size": 33, "device": "cuda:0"})");
  EXPECT_EQ(chunk_size(), 33);
  tree.best("one", R"({"chunk_size": 33, "device": "cuda"})");
  EXPECT_EQ(chunk_size(), 33);
}

TEST_F(TunedResult, MatchesTheShortNameOfTheRequestedBackend) {
  tree.request.flags["chunkwise_backend"] = "chunkwise--queued_compiled_steps";
  tree.best("one", R"({"chunk_size": 33, "backend": "queued_compiled_steps"})");
  EXPECT_EQ(chunk_size(), 33);
}

TEST_F(TunedResult, MatchesEveryNameOfTheSameBackend) {
  for (const char* requested : {"auto", "cpu", "native_compiled", "native_compiled_autograd"}) {
    for (const char* recorded : {"cpu", "native_compiled", "chunkwise--native_compiled_xl"}) {
      SCOPED_TRACE(std::string(requested) + " finds " + recorded);
      tree.request.flags["chunkwise_backend"] = requested;
      tree.best("one", std::string(R"({"chunk_size": 33, "backend": ")") + recorded + "\"}");
      EXPECT_EQ(chunk_size(), 33);
    }
  }
  tree.request.flags["chunkwise_backend"] = "native_autograd";
  EXPECT_EQ(chunk_size(), 7) << "native is another one";
}

TEST_F(TunedResult, MatchesAnyModelIfTheModelIsUnknown) {
  tree.request.model.reset();
  tree.best("one", R"({"chunk_size": 33, "device": "cpu", "backend": "ray", "model": {"embedding_dim": 1}})");
  EXPECT_EQ(chunk_size(), 33);
  EXPECT_THAT(config.notes, Contains(HasSubstr("matches without comparing model")));
}

TEST_F(TunedResult, OneThatRecordsEverythingNeedsNoRemark) {
  const auto path = tree.best("one", R"({"params": {"chunk_size": 33, "hpb": 2}, "device": "cpu", "backend": "ray",
      "model": {"embedding_dim": 64, "num_blocks": 2, "num_heads": 4, "vocab_size": 256}})");
  set_age(path, hours(5) + seconds(30));
  EXPECT_EQ(chunk_size(), 33);
  EXPECT_THAT(config.notes,
              ElementsAre("tuned result " + path.string() + ", 5 h old, sets chunk_size 33, heads_per_band 2"));
}

TEST_F(TunedResult, UnusableFilesArePassedOverWithANote) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"{", "JSON text"},
      {"[]", "a JSON object"},
      {R"({"chunk_size": 0})", "an integer from 1 to 1024, got 0"},
      {R"({"chunk_size": 33, "heads_per_band": "4"})", "heads_per_band"},
      {R"({"params": {"workers": 300, "chunk_size": 33}})", "from 0 to 256"},
      {R"({"params": [33]})", "params"},
      {R"({"chunk_size": 33, "device": 1})", "device"},
      {R"({"chunk_size": 33, "backend": []})", "backend"},
      {R"({"chunk_size": 33, "model": 8})", "model"},
      {R"({"chunk_size": 33, "model": {"num_heads": "4"}})", "model.num_heads"},
      {R"({"chunk_size": 33, "chunk_size": 34})", "each key once"},
      {R"({"metrics": {"tok_s": 1}})", "chunk_size or heads_per_band, got neither"}};
  for (const auto& [text, reason] : cases) {
    SCOPED_TRACE(text);
    set_age(tree.best("good", R"({"chunk_size": 12})"), hours(1));
    const auto bad = tree.best("bad", text);
    EXPECT_EQ(chunk_size(), 12);
    EXPECT_THAT(config.notes, Contains(AllOf(HasSubstr("passed over"), HasSubstr(bad.string()), HasSubstr(reason))));
  }
}

TEST_F(TunedResult, AFolderOfThatNameIsPassedOver) {
  const auto path = tree.best("one", "{}");
  std::filesystem::remove(path);
  std::filesystem::create_directory(path);
  EXPECT_EQ(chunk_size(), 7);
  EXPECT_THAT(config.notes, Contains(HasSubstr(path.string())));
}

TEST_F(TunedResult, ManyResultsForSomethingElseShareOneNote) {
  for (int i = 0; i < 5; ++i) tree.best("run" + std::to_string(i), R"({"chunk_size": 33, "device": "mps"})");
  EXPECT_EQ(chunk_size(), 7);
  EXPECT_THAT(config.notes, ElementsAre(HasSubstr("5 newer tuned results passed over")));
}

TEST_F(TunedResult, IsNotReadWithoutUseBest) {
  tree.best("one", R"({"chunk_size": 33})");
  tree.request.flags["use_best"] = false;
  EXPECT_EQ(chunk_size(), 7);
  EXPECT_TRUE(config.notes.empty());
}

TEST_F(TunedResult, AMissingRunsFolderIsFine) {
  tree.request.flags["runs_dir"] = "/nowhere";
  EXPECT_EQ(chunk_size(), 7);
  EXPECT_TRUE(config.notes.empty());
}

}  // namespace
}  // namespace xlstm
