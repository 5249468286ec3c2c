// Profiles: JSON files of settings, found by path, by name, or picked for the device and scheduler at hand.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "xlstm/config/runtime_opts.h"

namespace xlstm {

struct Setting {
  const Option* option;
  nlohmann::json value;  // checked
};

struct Layer {
  std::string source;
  std::string rule;
  std::vector<Setting> settings;
};

// Reads a file of settings. Keys that begin with '_' and the objects of other tools (optimizer, quantize, mlx, metal)
// are passed over; everything else must be a known option with an allowed value. Error kUsage.
[[nodiscard]] Layer read_profile(const std::filesystem::path& path, std::string rule);

// `requested`, else ./configs if it holds runtime_defaults.json, else the shipped folder, else empty.
[[nodiscard]] std::filesystem::path find_configs_dir(const std::optional<std::filesystem::path>& requested);

// The file of --profile NAME. Error kUsage with the available names if there is none.
[[nodiscard]] std::filesystem::path find_profile(const std::filesystem::path& configs_dir, const std::string& name);

struct PickedProfile {
  std::filesystem::path path;
  std::string rule;
};

// The profile for a device kind ("cpu", "cuda", "mps") and a short chunkwise backend name. File names are split at
// '_', '-' and '.'; a candidate holds the part "ray" or "queued", as the backend is, and names no other device. A
// candidate that names this device comes before one that names none, then the newest, then the greatest name.
[[nodiscard]] std::optional<PickedProfile> pick_profile(const std::filesystem::path& configs_dir,
                                                        std::string_view device_kind, std::string_view backend);

}  // namespace xlstm
