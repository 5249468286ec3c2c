// Precedence, selectors and origins of the seven layers.
#include "xlstm/config/layers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "tests/config/config_tree.h"
#include "tests/support/expect_error.h"

namespace xlstm {
namespace {

using nlohmann::json;
using test::ConfigTree;
using test::expect_error;
using testing::ElementsAre;
using testing::HasSubstr;

// Makes layer `number` (2 to 7) set chunk_size and returns the origin it must show.
std::string add_layer(ConfigTree& tree, int number, int64_t chunk_size) {
  const std::string text = json({{"chunk_size", chunk_size}}).dump();
  switch (number) {
    case 2: return tree.config("runtime_defaults.json", text).string();
    case 3: return tree.config("any_ray.json", text).string();
    case 4: return tree.best("one", text).string();
    case 5: tree.request.profile = "named"; return tree.config("named.json", text).string();
    case 6: {
      const auto path = tree.file("given.json", text);
      tree.request.config_files.push_back(path);
      return path.string();
    }
    default: tree.request.flags["chunk_size"] = chunk_size; return "command line";
  }
}

TEST(Layers, EachLayerWinsOverEveryLowerOne) {
  for (int low = 2; low <= 7; ++low) {
    for (int high = low; high <= 7; ++high) {
      SCOPED_TRACE("layers " + std::to_string(low) + " and " + std::to_string(high));
      ConfigTree tree;
      if (low != high) add_layer(tree, low, 100 + low);
      const std::string origin = add_layer(tree, high, 100 + high);
      const EffectiveConfig config = tree.merge();
      EXPECT_EQ(config.opts.chunk_size, 100 + high);
      EXPECT_EQ(config.origin.at("chunk_size"), origin);
    }
  }
}

TEST(Layers, AllAtOnceGiveTheHighestAndListWhatWasApplied) {
  ConfigTree tree;
  std::vector<std::string> sources = {"compiled defaults"};
  for (int number = 2; number <= 7; ++number) {
    const std::string source = add_layer(tree, number, 100 + number);
    if (number != 3) sources.push_back(source);  // skipped beside --profile
  }
  const EffectiveConfig config = tree.merge();
  EXPECT_EQ(config.opts.chunk_size, 107);
  std::vector<std::string> applied;
  for (const AppliedLayer& layer : config.layers) applied.push_back(layer.source);
  EXPECT_EQ(applied, sources);
}

TEST(Layers, WithoutAnyFileTheCompiledDefaultsRemain) {
  ConfigTree tree;
  tree.request.flags = {{"use_best", false}};
  const EffectiveConfig config = tree.merge();
  RuntimeOpts expected;
  expected.use_best = false;
  EXPECT_EQ(config.opts, expected);
  for (const auto& [key, origin] : config.origin) {
    EXPECT_EQ(origin, key == "use_best" ? "command line" : "compiled default") << key;
  }
  EXPECT_EQ(config.origin.size(), runtime_options().size());
  EXPECT_THAT(config.notes, ElementsAre(HasSubstr("no runtime_defaults.json")));
}

TEST(Layers, MergeKeyByKeyWithItsOwnOrigin) {
  ConfigTree tree;
  const auto defaults = tree.config("runtime_defaults.json", R"({"chunk_size": 8, "workers": 3, "top_k": 5})");
  const auto picked = tree.config("a_ray.json", R"({"workers": 5, "temperature": 0.1})");
  const auto given = tree.file("given.json", R"({"top_k": 6, "stop": ["x"]})");
  tree.request.config_files = {given};
  tree.request.flags["seed"] = 9;
  const EffectiveConfig config = tree.merge();
  EXPECT_EQ(config.opts.chunk_size, 8);
  EXPECT_EQ(config.opts.workers, 5);
  EXPECT_EQ(config.opts.temperature, 0.1);
  EXPECT_EQ(config.opts.top_k, 6);
  EXPECT_THAT(config.opts.stop, ElementsAre("x"));
  EXPECT_EQ(config.opts.seed, 9);
  EXPECT_EQ(config.origin.at("chunk_size"), defaults.string());
  EXPECT_EQ(config.origin.at("workers"), picked.string());
  EXPECT_EQ(config.origin.at("temperature"), picked.string());
  EXPECT_EQ(config.origin.at("top_k"), given.string());
  EXPECT_EQ(config.origin.at("seed"), "command line");
  EXPECT_EQ(config.origin.at("min_p"), "compiled default");
}

TEST(Layers, LaterConfigFilesWin) {
  ConfigTree tree;
  const auto first = tree.file("first.json", R"({"chunk_size": 1, "workers": 1})");
  const auto second = tree.file("second.json", R"({"chunk_size": 2})");
  tree.request.config_files = {first, second};
  const EffectiveConfig config = tree.merge();
  EXPECT_EQ(config.opts.chunk_size, 2);
  EXPECT_EQ(config.opts.workers, 1);
  EXPECT_EQ(config.origin.at("chunk_size"), second.string());
}

TEST(Layers, AGivenFlagWithTheDefaultValueStillWins) {
  ConfigTree tree;
  tree.config("runtime_defaults.json", R"({"chunk_size": 8})");
  tree.request.flags["chunk_size"] = 64;
  EXPECT_EQ(tree.merge().opts.chunk_size, 64);
  EXPECT_EQ(tree.merge().origin.at("chunk_size"), "command line");
}

TEST(Selectors, ComeFromEveryExplicitLayerInOrder) {
  // The backend that picks the profile is the one that the highest explicit layer names.
  for (int layer : {2, 6, 7}) {
    SCOPED_TRACE(layer);
    ConfigTree tree;
    tree.config("x_queued.json", R"({"workers": 7})");
    tree.config("x_ray.json", R"({"workers": 8})");
    const json value = {{"chunkwise_backend", "queued_compiled_steps"}};
    if (layer == 2) tree.config("runtime_defaults.json", value.dump());
    if (layer == 6) tree.request.config_files = {tree.file("given.json", value.dump())};
    if (layer == 7) tree.request.flags.update(value);
    EXPECT_EQ(tree.merge().opts.workers, 7);
  }
}

TEST(Selectors, OfAnAutoPickedProfileAreNotApplied) {
  ConfigTree tree;
  const auto picked = tree.config("odd_ray.json", R"({"chunkwise_backend": "queued_compiled_steps", "device": "mps",
      "use_best": false, "runs_dir": "elsewhere", "chunk_size": 48})");
  tree.best("one", R"({"heads_per_band": 2})");
  const EffectiveConfig config = tree.merge();
  EXPECT_EQ(config.opts.chunk_size, 48);
  EXPECT_EQ(config.opts.chunkwise_backend, "ray_compiled_steps");
  EXPECT_EQ(config.opts.device, "auto");
  EXPECT_TRUE(config.opts.use_best);
  EXPECT_EQ(config.opts.heads_per_band, 2);
  EXPECT_EQ(config.origin.at("chunkwise_backend"), "compiled default");
  for (const char* key : {"chunkwise_backend", "device", "use_best", "runs_dir"}) {
    EXPECT_THAT(config.notes, testing::Contains(testing::AllOf(HasSubstr(picked.string()), HasSubstr(key))));
  }
}

TEST(Selectors, EqualInAnAutoPickedProfileNeedNoNote) {
  ConfigTree tree;
  tree.config("runtime_defaults.json", "{}");
  tree.config("fine_ray.json", R"({"chunkwise_backend": "chunkwise--ray_compiled_steps", "device": "auto"})");
  EXPECT_TRUE(tree.merge().notes.empty());
}

TEST(Selectors, OfANamedProfileChooseTheTunedResult) {
  ConfigTree tree;
  tree.config("queued.json", R"({"chunkwise_backend": "queued_compiled_steps"})");
  tree.request.profile = "queued";
  tree.best("one", R"({"backend": "queued_compiled_steps", "chunk_size": 24})");
  EXPECT_EQ(tree.merge().opts.chunk_size, 24);
}

TEST(Selectors, TheResolvedDeviceChooses) {
  ConfigTree tree;
  tree.config("x_ray_cuda.json", R"({"workers": 2})");
  tree.config("x_ray_cpu.json", R"({"workers": 1})");
  EXPECT_EQ(tree.merge().opts.workers, 1);
  tree.request.resolve_device = [](const std::string& device) { return device == "auto" ? "cuda:0" : device; };
  EXPECT_EQ(tree.merge().opts.workers, 2);
  EXPECT_EQ(tree.merge().opts.device, "auto");
  tree.request.flags["device"] = "cpu";
  EXPECT_EQ(tree.merge().opts.workers, 1);
}

TEST(Profile, GivenByNameSkipsTheAutoPick) {
  ConfigTree tree;
  tree.config("a_ray.json", R"({"workers": 5})");
  tree.config("named.json", R"({"chunk_size": 16})");
  tree.request.profile = "named";
  EXPECT_EQ(tree.merge().opts.workers, 0);
  EXPECT_EQ(tree.merge().opts.chunk_size, 16);
}

TEST(Profile, UnknownNameListsWhatThereIs) {
  ConfigTree tree;
  tree.config("golden_ray.json", "{}");
  tree.config("other.json", "{}");
  tree.request.profile = "golden_rey";
  expect_error(
      [&] { (void)tree.merge(); }, ExitCode::kUsage,
      {"--profile (command line)", "did you mean golden_ray?", "(there are golden_ray, other)", "\"golden_rey\""});
  tree.request.profile = "";
  expect_error([&] { (void)tree.merge(); }, ExitCode::kUsage, {"--profile (command line)"});
}

TEST(Profile, NameIsNoPath) {
  ConfigTree tree;
  tree.file("outside.json", "{}");
  for (const char* name : {"../outside", "/etc/passwd", "a/b", "a\\b"}) {
    tree.request.profile = name;
    expect_error([&] { (void)tree.merge(); }, ExitCode::kUsage, {"a name without a path"});
  }
}

TEST(ConfigsDir, MustExistWhenGiven) {
  ConfigTree tree;
  tree.request.configs_dir = tree.file("a_file", "");
  expect_error([&] { (void)tree.merge(); }, ExitCode::kUsage, {"--configs-dir (command line): expected a directory"});
  tree.request.configs_dir = "/nowhere";
  expect_error([&] { (void)tree.merge(); }, ExitCode::kUsage, {"\"/nowhere\""});
}

TEST(ConfigsDir, IsTheShippedOneWithoutARequest) {
  LayerRequest request;
  request.flags = {{"use_best", false}};
  const EffectiveConfig config = merge_layers(request);
  EXPECT_TRUE(std::filesystem::equivalent(config.configs_dir, std::filesystem::path(XLSTM_SOURCE_DIR) / "configs"));
}

TEST(EffectiveConfigJson, HoldsEveryKeyInOrderThenOriginAndLayers) {
  ConfigTree tree;
  tree.request.flags["chunk_size"] = 32;
  const nlohmann::ordered_json out = to_json(tree.merge());
  auto item = out.begin();
  for (const Option& option : runtime_options()) {
    ASSERT_NE(item, out.end());
    EXPECT_EQ(item.key(), option.key);
    ++item;
  }
  EXPECT_EQ(item.key(), "_origin");
  EXPECT_EQ((++item).key(), "_layers");
  EXPECT_EQ(++item, out.end());
  EXPECT_EQ(out["_origin"]["chunk_size"], "command line");
  EXPECT_EQ(out["_origin"]["workers"], "compiled default");
  EXPECT_EQ(out["_origin"].size(), runtime_options().size());
  EXPECT_EQ(out["_layers"][0]["source"], "compiled defaults");
  EXPECT_EQ(out["_layers"][1]["source"], "command line");
  EXPECT_FALSE(out["_layers"][1]["rule"].get<std::string>().empty());
}

TEST(EffectiveConfigJson, FedBackGivesTheSameValues) {
  ConfigTree tree;
  tree.config("a_ray.json", R"({"workers": 5, "temperature": 0.1234567890123456})");
  tree.best("one", R"({"params": {"ck": 40, "hpb": 3}})");
  tree.request.flags.update({{"seed", INT64_MAX},
                             {"stop", {"\n\n", "\"é\""}},
                             {"top_p", 1.0 / 3.0},
                             {"add_bos", false},
                             {"mem_hard_mb", 1e-7}});
  const EffectiveConfig first = tree.merge();
  nlohmann::ordered_json printed = to_json(first);
  printed["_resolved"] = {{"device", "cpu"}, {"error", nullptr}};

  ConfigTree other;
  other.config("b_ray.json", R"({"workers": 6, "top_k": 1})");
  other.best("one", R"({"chunk_size": 8})");
  other.request.flags = json();
  const auto path = other.file("printed.json", printed.dump(2));
  other.request.config_files = {path};
  const EffectiveConfig second = other.merge();
  EXPECT_EQ(second.opts, first.opts);
  for (const auto& [key, origin] : second.origin) EXPECT_EQ(origin, path.string()) << key;
}

TEST(BadFiles, AreRefusedInEveryLayerThatReadsThem) {
  const std::vector<std::pair<std::string, std::vector<std::string>>> cases = {
      {R"({"chunk_sise": 3})", {"configuration key", ".json:1)", "did you mean chunk_size?", "\"chunk_sise\""}},
      {R"({"chunk-size": 3})", {"did you mean chunk_size?"}},
      {R"({"zzzzzz": 3})", {"a known key (see xlstm_generate --help)", "\"zzzzzz\""}},
      {"{\n\"chunk_size\": 0}", {"chunk_size (", ".json:2)", "an integer from 1 to 1024, got 0"}},
      {R"({"chunk_size": null})", {"\"chunk_size\"", "got null"}},
      {R"({"chunk_size": 1, "chunk_size": 2})", {"each key once"}},
      {R"({"optimizer": 3})", {"optimizer (", "an object, got a JSON number"}},
      {R"({"metal": []})", {"metal (", "an object, got a JSON array"}},
      {R"([])", {"a JSON object"}},
      {"{", {"JSON text"}}};
  for (const auto& [text, parts] : cases) {
    for (int layer : {2, 3, 5, 6}) {
      SCOPED_TRACE(text + " in layer " + std::to_string(layer));
      ConfigTree tree;
      std::vector<std::string> expected = parts;
      expected.push_back(add_layer(tree, layer, 1));
      tree.config(std::filesystem::path(expected.back()).filename().string(), text);
      if (layer == 6) tree.request.config_files = {tree.file("given.json", text)};
      expect_error([&] { (void)tree.merge(); }, ExitCode::kUsage, expected);
    }
  }
}

TEST(BadFiles, AreRefusedEvenWhereALaterLayerWouldWin) {
  ConfigTree tree;
  tree.config("runtime_defaults.json", R"({"chunk_size": 0})");
  tree.request.flags["chunk_size"] = 64;
  expect_error([&] { (void)tree.merge(); }, ExitCode::kUsage, {"runtime_defaults.json", "got 0"});
}

TEST(BadFiles, AMissingConfigFileIsNamed) {
  ConfigTree tree;
  tree.request.config_files = {"/nowhere/x.json"};
  expect_error([&] { (void)tree.merge(); }, ExitCode::kUsage, {"/nowhere/x.json", "a readable file"});
}

TEST(Files, MayHoldPrivateKeysAndOtherToolsObjects) {
  ConfigTree tree;
  tree.request.config_files = {
      tree.file("given.json", R"({"_comment": [1, "x"], "_": null, "optimizer": {"heads": [1, 8]},
      "quantize": {}, "mlx": {"a": 1}, "metal": {"m3": {}}, "chunk_size": 16})")};
  EXPECT_EQ(tree.merge().opts.chunk_size, 16);
}

TEST(Flags, AreCheckedLikeFiles) {
  ConfigTree tree;
  tree.request.flags["chunk_size"] = 0;
  expect_error([&] { (void)tree.merge(); }, ExitCode::kUsage, {"chunk_size (command line)", "got 0"});
}

}  // namespace
}  // namespace xlstm
