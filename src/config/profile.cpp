#include "src/config/profile.h"

#include <algorithm>
#include <array>
#include <system_error>
#include <tuple>
#include <utility>

#include "src/config/config_file.h"
#include "xlstm/config/backend_names.h"
#include "xlstm/core/errors.h"
#include "xlstm/core/paths.h"
#include "xlstm/core/str.h"

namespace xlstm {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 3> kDevices = {"cpu", "cuda", "mps"};
constexpr std::array<std::string_view, 4> kOtherTools = {"optimizer", "quantize", "mlx", "metal"};
constexpr std::string_view kDefaultsFile = "runtime_defaults.json";

template <class Range>
bool contains(const Range& range, std::string_view value) {
  return std::find(range.begin(), range.end(), value) != range.end();
}

bool is_regular(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

// The JSON files of a directory that are not hidden, by name.
std::vector<fs::path> json_files(const fs::path& dir) {
  std::vector<fs::path> files;
  std::error_code error;
  for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
    const fs::path& path = it->path();
    if (path.extension() != ".json" || path.filename().string().starts_with('.') || !is_regular(path)) continue;
    files.push_back(path.lexically_normal());
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::vector<std::string> name_parts(const std::string& name) {
  std::vector<std::string> parts(1);
  for (const char c : name) {
    if (c == '_' || c == '-' || c == '.') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

}  // namespace

std::string device_kind(std::string_view device) {
  return std::string(device.substr(0, device.find(':')));
}

Layer read_profile(const fs::path& path, std::string rule) {
  const JsonObject file = read_config_file(path);
  Layer layer{path.string(), std::move(rule), {}};
  RuntimeOpts scratch;
  for (const auto& [key, value] : file.value.items()) {
    const std::string where = cat(path.string(), ':', file.lines.at(key));
    if (key.starts_with('_')) continue;
    if (contains(kOtherTools, key)) {
      if (!value.is_object()) fail(ExitCode::kUsage, key, where, "an object", cat("a JSON ", value.type_name()));
      continue;
    }
    const Option* option = find_option(key);
    if (option == nullptr) {
      const std::string near = nearest_option(key);
      fail(ExitCode::kUsage, "configuration key", where,
           near.empty() ? "a known key (see xlstm_generate --help)" : cat("a known key, did you mean ", near, "?"),
           cat('"', printable(key), '"'));
    }
    set_option(scratch, *option, value, {key, where});
    layer.settings.push_back({option, value});
  }
  return layer;
}

fs::path find_configs_dir(const std::optional<fs::path>& requested) {
  if (requested) {
    std::error_code ignored;
    if (!fs::is_directory(*requested, ignored)) {
      fail(ExitCode::kUsage, "--configs-dir", "command line", "a directory", cat('"', requested->string(), '"'));
    }
    return *requested;
  }
  if (is_regular(fs::path("configs") / kDefaultsFile)) return "configs";
  return find_shipped("configs").value_or(fs::path());
}

fs::path find_profile(const fs::path& configs_dir, const std::string& name) {
  const ValueSource source{"--profile", "command line"};
  const std::string shown = cat('"', printable(name), '"');
  if (name.find_first_of("/\\") != std::string::npos) {
    fail(ExitCode::kUsage, source.what, source.where, "a name without a path (--config takes a path)", shown);
  }
  if (configs_dir.empty()) fail(ExitCode::kUsage, source.what, source.where, "a configs directory to look in", "none");
  const fs::path path = (configs_dir / (name + ".json")).lexically_normal();
  if (!name.empty() && is_regular(path)) return path;

  std::vector<std::string> names;
  for (const fs::path& file : json_files(configs_dir)) names.push_back(file.stem().string());
  std::string expected = cat("a profile in ", configs_dir.string());
  if (const std::string near = nearest(name, names); !near.empty()) expected += cat(", did you mean ", near, "?");
  if (!names.empty()) expected += cat(" (there are ", join(names, ", "), ")");
  fail(ExitCode::kUsage, source.what, source.where, expected, shown);
}

std::optional<PickedProfile> pick_profile(const fs::path& configs_dir, std::string_view device_kind,
                                          std::string_view backend) {
  const std::string_view scheduler = backend == kRayBackend ? "ray" : backend == kQueuedBackend ? "queued" : "";
  if (scheduler.empty() || configs_dir.empty()) return std::nullopt;

  using Rank = std::tuple<bool, fs::file_time_type, std::string>;  // names this device, age, name
  std::optional<std::pair<Rank, fs::path>> best;
  for (const fs::path& path : json_files(configs_dir)) {
    const std::vector<std::string> parts = name_parts(path.filename().string());
    const auto names_other = [&](std::string_view device) { return device != device_kind && contains(parts, device); };
    if (!contains(parts, scheduler) || std::any_of(kDevices.begin(), kDevices.end(), names_other)) continue;
    std::error_code ignored;
    Rank rank{contains(parts, device_kind), fs::last_write_time(path, ignored), path.filename().string()};
    if (!best || rank > best->first) best.emplace(std::move(rank), path);
  }
  if (!best) return std::nullopt;
  const bool names_device = std::get<0>(best->first);
  return PickedProfile{best->second, cat("auto-picked for ", backend, " on ", device_kind, ": names ",
                                         names_device ? "this device" : "no device", ", newest")};
}

}  // namespace xlstm
