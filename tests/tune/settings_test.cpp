// The "optimizer" object.
#include "xlstm/tune/settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

namespace xlstm {
namespace {

using nlohmann::json;
using test::expect_error;
using test::TempDir;
using testing::ElementsAre;

TEST(TuneSettingsFile, SetsEveryKey) {
  const TempDir dir;
  TuneSettings settings;
  const auto left = read_settings_file(settings, dir.file("a.json", R"({"_comment": "x", "chunk_size": 32, "optimizer":
      {"_note": "y", "backend": "queued", "mode": "random", "objective": "total", "trials": 16, "generations": 3,
       "population": 9, "repeats": 2, "heads": [2, 8], "chunks": [16, 64], "workers": [4, 8], "prompt_tokens": 100,
       "new": 31, "prompt_file": "p.txt", "tag": "t"}, "workers": 6, "quantize": {}})"));
  EXPECT_EQ(settings.backend, "queued");
  EXPECT_EQ(settings.mode, TuneMode::kRandom);
  EXPECT_EQ(settings.objective, TuneObjective::kTotal);
  EXPECT_EQ(settings.trials, 16);
  EXPECT_EQ(settings.generations, 3);
  EXPECT_EQ(settings.population, 9);
  EXPECT_EQ(settings.repeats, 2);
  EXPECT_EQ(settings.heads->max, 8);
  EXPECT_EQ(settings.chunks.min, 16);
  EXPECT_EQ(settings.workers->min, 4);
  EXPECT_EQ(settings.prompt_tokens, 100);
  EXPECT_EQ(settings.new_tokens, 31);
  EXPECT_EQ(settings.prompt_file, "p.txt");
  EXPECT_EQ(settings.tag, "t");
  EXPECT_THAT(left, ElementsAre("chunk_size", "workers")) << "configuration is --config's";
}

TEST(TuneSettingsFile, WrittenAndReadAgainIsTheSame) {
  TuneSettings settings;
  settings.mode = TuneMode::kGrid;
  settings.heads = TuneRange{1, 3};
  settings.tag = "x";
  TuneSettings again;
  again.trials = 99;
  apply_settings(again, json::parse(to_json(settings).dump()), "somewhere");
  EXPECT_EQ(to_json(again), to_json(settings));
  EXPECT_FALSE(again.workers.has_value());
}

TEST(TuneSettingsFile, RefusesWhatIsWrongWithFileAndKey) {
  const TempDir dir;
  const std::vector<std::pair<std::string, std::vector<std::string>>> cases = {
      {R"({"optimizer": {"mod": "ga"}})", {"optimizer", "did you mean mode?", "\"mod\""}},
      {R"({"optimizer": {"zzzzzzz": 1}})", {"one of backend, mode", "zzzzzzz"}},
      {R"({"optimizer": {"mode": "best"}})", {"optimizer.mode", "one of random, ga, grid", "best"}},
      {R"({"optimizer": {"mode": 3}})", {"optimizer.mode", "got 3"}},
      {R"({"optimizer": {"objective": "speed"}})", {"optimizer.objective", "prefill, decode, total"}},
      {R"({"optimizer": {"trials": 0}})", {"optimizer.trials", "from 1 to 100000", "got 0"}},
      {R"({"optimizer": {"trials": 18446744073709551615}})", {"optimizer.trials"}},
      {R"({"optimizer": {"trials": 2.0}})", {"optimizer.trials"}},
      {R"({"optimizer": {"population": 1}})", {"optimizer.population", "from 2"}},
      {R"({"optimizer": {"repeats": "3"}})", {"optimizer.repeats"}},
      {R"({"optimizer": {"heads": [0, 4]}})", {"optimizer.heads", "[0,4]"}},
      {R"({"optimizer": {"heads": [4, 2]}})", {"optimizer.heads", "[4,2]"}},
      {R"({"optimizer": {"heads": 4}})", {"optimizer.heads", "got 4"}},
      {R"({"optimizer": {"chunks": [16, 64, 96]}})", {"optimizer.chunks", "[lowest, highest]"}},
      {R"({"optimizer": {"chunks": [16, 2000]}})", {"optimizer.chunks", "1024"}},
      {R"({"optimizer": {"workers": [1.5, 2]}})", {"optimizer.workers"}},
      {R"({"optimizer": {"tag": 1}})", {"optimizer.tag", "text"}},
      {R"({"optimizer": {"tag": null}})", {"tag", "null"}},
      {R"({"optimizer": {"trials": 1, "trials": 2}})", {"trials"}},
      {R"({"optimizer": []})", {"optimizer", "an object", "a list"}},
      {R"({"chunk_size": 1})", {"optimizer", "got none"}},
      {"{", {"JSON"}},
      {"[]", {"JSON"}}};
  for (const auto& [text, parts] : cases) {
    SCOPED_TRACE(text);
    const auto path = dir.file("bad.json", text);
    TuneSettings settings;
    std::vector<std::string> expected = parts;
    expected.push_back(path.string());
    expect_error([&] { (void)read_settings_file(settings, path); }, ExitCode::kUsage, expected);
  }
  TuneSettings settings;
  expect_error([&] { (void)read_settings_file(settings, dir / "none.json"); }, ExitCode::kUsage, {"none.json"});
}

TEST(TuneSettingsFile, ShippedFilesAreRead) {
  for (const char* name :
       {"experiment_ray16k", "experiment_queued16k", "tunables_ray16k", "tunables_queued16k", "max_mps"}) {
    SCOPED_TRACE(name);
    TuneSettings settings;
    (void)read_settings_file(settings, std::string(XLSTM_SOURCE_DIR) + "/configs/" + name + ".json");
    EXPECT_EQ(settings.repeats, 1);
    EXPECT_EQ(settings.mode, std::string(name).find("queued") != std::string::npos ? TuneMode::kRandom : TuneMode::kGa);
  }
}

}  // namespace
}  // namespace xlstm
