// A configs directory and a runs directory of a test's own, and a request that uses nothing else.
#pragma once

#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "tests/support/temp_dir.h"
#include "xlstm/config/layers.h"

namespace xlstm::test {

class ConfigTree {
 public:
  ConfigTree() {
    std::filesystem::create_directory(dir_ / "configs");
    std::filesystem::create_directory(dir_ / "runs");
    request.configs_dir = dir_ / "configs";
    request.flags = {{"runs_dir", (dir_ / "runs").string()}};
    request.resolve_device = [](const std::string& device) { return device == "auto" ? "cpu" : device; };
    request.model = ModelShape{64, 2, 4, 256};
  }

  std::filesystem::path config(const std::string& name, std::string_view json) const {
    return dir_.file("configs/" + name, json);
  }
  std::filesystem::path best(const std::string& run, std::string_view json) const {
    std::filesystem::create_directory(dir_ / ("runs/" + run));
    return dir_.file("runs/" + run + "/best.json", json);
  }
  std::filesystem::path file(const std::string& name, std::string_view json) const { return dir_.file(name, json); }

  [[nodiscard]] EffectiveConfig merge() const { return merge_layers(request); }

  LayerRequest request;

 private:
  TempDir dir_;
};

// Sets a file's time to `age` before now.
inline void set_age(const std::filesystem::path& path, std::chrono::seconds age) {
  std::filesystem::last_write_time(path, std::filesystem::file_time_type::clock::now() - age);
}

}  // namespace xlstm::test
