// The files of configs/: valid as --config, with the values that the documentation promises.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "src/config/config_file.h"
#include "src/config/profile.h"
#include "xlstm/config/layers.h"

namespace xlstm {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const fs::path kConfigs = fs::path(XLSTM_SOURCE_DIR) / "configs";

json read(const std::string& name) {
  json value = read_config_file(kConfigs / name).value;
  value.erase("_comment");
  return value;
}

TEST(ShippedFiles, AreThese) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(kConfigs)) names.insert(entry.path().filename().string());
  EXPECT_EQ(names, (std::set<std::string>{"runtime_defaults.json", "golden_ray.json", "golden_queued.json",
                                          "golden_ray_cpu.json", "golden_ray_cuda.json", "golden_ray_mps.json",
                                          "golden_queued_cpu.json", "golden_queued_cuda.json", "golden_queued_mps.json",
                                          "max_mps.json", "mlx_hardware_params.json", "varquant_default.json",
                                          "experiment_ray16k.json", "experiment_queued16k.json", "tunables_ray16k.json",
                                          "tunables_queued16k.json"}));
}

TEST(ShippedFiles, AreAllValidConfigFilesAndProfiles) {
  for (const auto& entry : fs::directory_iterator(kConfigs)) {
    SCOPED_TRACE(entry.path());
    LayerRequest request;
    request.configs_dir = kConfigs;
    request.flags = {{"use_best", false}};
    request.config_files = {entry.path()};
    EXPECT_NO_THROW((void)merge_layers(request));
    request.config_files.clear();
    request.profile = entry.path().stem().string();
    EXPECT_NO_THROW((void)merge_layers(request));
  }
}

TEST(ShippedFiles, RuntimeDefaultsEqualTheCompiledDefaults) {
  const Layer layer = read_profile(kConfigs / "runtime_defaults.json", "");
  EXPECT_EQ(layer.settings.size(), runtime_options().size());
  for (const Setting& setting : layer.settings) {
    EXPECT_EQ(setting.value, get_option({}, *setting.option)) << setting.option->key;
  }
}

TEST(ShippedFiles, RuntimeDefaultsHoldThePromisedValues) {
  const json defaults = read("runtime_defaults.json");
  const json promised = {{"device", "auto"},
                         {"dtype", "auto"},
                         {"state_dtype", "float32"},
                         {"ops_backend", "auto"},
                         {"chunkwise_backend", "ray_compiled_steps"},
                         {"sequence_backend", "auto"},
                         {"step_backend", "auto"},
                         {"chunk_size", 64},
                         {"heads_per_band", 4},
                         {"workers", 0},
                         {"streams", 0},
                         {"threads", 0},
                         {"prefill_segment", 2048},
                         {"ray_local_mode", 1},
                         {"ray_dashboard", 0},
                         {"ray_dashboard_port", 8265},
                         {"ray_keep_alive", 0},
                         {"ray_address", ""},
                         {"use_best", true},
                         {"runs_dir", "runs/mps_opt"},
                         {"mem_watchdog", true},
                         {"mem_poll_ms", 200},
                         {"mem_soft_pct", 0.85},
                         {"mem_hard_pct", 0.92},
                         {"mem_soft_mb", 0},
                         {"mem_hard_mb", 0},
                         {"mem_action", "warn,empty_cache"},
                         {"mem_log", ""},
                         {"mem_every", 200},
                         {"stats_log", ""},
                         {"stats_every", 1},
                         {"max_new_tokens", 128},
                         {"temperature", 0.8},
                         {"top_k", 40},
                         {"top_p", 0.95},
                         {"min_p", 0.05},
                         {"repeat_penalty", 1.0},
                         {"repeat_last_n", 64},
                         {"seed", -1},
                         {"stop", json::array()},
                         {"ignore_eos", false},
                         {"add_bos", true},
                         {"log_level", "info"},
                         {"log_file", ""},
                         {"progress", true}};
  EXPECT_EQ(defaults, promised);
}

TEST(ShippedFiles, GoldenProfilesHoldThePromisedValues) {
  json expected = {{"chunkwise_backend", "ray_compiled_steps"},
                   {"chunk_size", 32},
                   {"heads_per_band", 4},
                   {"workers", 4},
                   {"streams", 0},
                   {"ray_local_mode", 1},
                   {"ray_dashboard", 0},
                   {"mem_poll_ms", 200},
                   {"mem_soft_pct", 0.85},
                   {"mem_hard_pct", 0.92},
                   {"mem_action", "warn,empty_cache"}};
  EXPECT_EQ(read("golden_ray.json"), expected);
  expected["chunkwise_backend"] = "queued_compiled_steps";
  expected["workers"] = 6;
  EXPECT_EQ(read("golden_queued.json"), expected);
}

TEST(ShippedFiles, DeviceProfilesHoldSchedulingKeysOnly) {
  const std::set<std::string> allowed = {"chunkwise_backend", "chunk_size", "heads_per_band",
                                         "workers",           "streams",    "threads"};
  for (const std::string scheduler : {"ray", "queued"}) {
    for (const std::string device : {"cpu", "cuda", "mps"}) {
      const json profile = read("golden_" + scheduler + "_" + device + ".json");
      SCOPED_TRACE(scheduler + " " + device);
      EXPECT_EQ(profile.at("chunkwise_backend"), scheduler + "_compiled_steps");
      for (const auto& [key, value] : profile.items()) EXPECT_TRUE(allowed.contains(key)) << key;
      // One band: more heads than any model has, so that one launch covers them all.
      if (device != "cpu") {
        EXPECT_EQ(profile.at("heads_per_band"), 256);
      }
    }
  }
}

TEST(ShippedFiles, SettingsOfOtherToolsHoldThePromisedValues) {
  EXPECT_EQ(read("max_mps.json"), json::parse(R"({"chunkwise_backend": "ray_compiled_steps", "chunk_size": 64,
      "heads_per_band": 8, "workers": 0, "streams": 0, "optimizer": {"backend": "ray", "generations": 5,
      "population": 12, "heads": [1, 8], "chunks": [16, 96], "repeats": 1}})"));
  EXPECT_EQ(read("mlx_hardware_params.json"), json::parse(R"({"metal": {
      "m3": {"gemm_tiles": {"av": "32x8", "atb": "8x32"}, "qr_dot_mode": "simd"},
      "default": {"gemm_tiles": {"av": "16x16", "atb": "16x16"}, "qr_dot_mode": "auto"}}})"));
  const json quantize = read("varquant_default.json").at("quantize");
  EXPECT_EQ(quantize.at("bits"), 4);
  EXPECT_EQ(quantize.at("seed"), 42);
}

TEST(ShippedFiles, SearchSettingsHoldThePromisedValues) {
  for (const std::string name : {"ray", "queued"}) {
    const bool ray = name == "ray";
    json search = ray ? json{{"mode", "ga"}, {"generations", 3}, {"population", 8}}
                      : json{{"mode", "random"}, {"trials", 16}, {"workers", {4, 8}}};
    search.update({{"backend", name}, {"repeats", 1}, {"heads", {2, 8}}, {"chunks", {16, 64}}, {"new", 32}});
    for (const std::string kind : {"experiment_", "tunables_"}) {
      SCOPED_TRACE(kind + name);
      json profile = read(kind + name + "16k.json");
      json optimizer = profile.at("optimizer");
      EXPECT_TRUE(optimizer.at("prompt_file").is_string());
      EXPECT_FALSE(optimizer.at("tag").get<std::string>().empty());
      optimizer.erase("prompt_file");
      optimizer.erase("tag");
      EXPECT_EQ(optimizer, search);
      profile.erase("optimizer");
      const json scheduling = {{"chunkwise_backend", name + "_compiled_steps"},
                               {"chunk_size", 32},
                               {"heads_per_band", 4},
                               {"workers", ray ? 4 : 6},
                               {"streams", 0}};
      EXPECT_EQ(profile, kind == "experiment_" ? scheduling : json::object());
    }
  }
}

}  // namespace
}  // namespace xlstm
