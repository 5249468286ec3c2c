#include "src/config/tuned_result.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <system_error>
#include <utility>

#include "src/config/config_file.h"
#include "xlstm/config/backend_names.h"
#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"

namespace xlstm {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

struct TunedKey {
  std::string_view key;
  std::string_view short_key;  // empty: none
};
constexpr std::array<TunedKey, 5> kTunedKeys = {
    {{"chunk_size", "ck"}, {"heads_per_band", "hpb"}, {"workers", ""}, {"streams", ""}, {"threads", ""}}};

struct Candidate {
  fs::file_time_type time;
  fs::path path;
};

// Newest first; files of the same time by greatest folder name.
std::vector<Candidate> candidates(const fs::path& runs_dir) {
  std::vector<Candidate> found;
  std::error_code error;
  for (fs::directory_iterator it(runs_dir, error), end; !error && it != end; it.increment(error)) {
    const fs::path path = (it->path() / "best.json").lexically_normal();
    std::error_code missing;
    if (!fs::exists(path, missing) || fs::is_fifo(path, missing)) continue;  // a pipe would never end
    const fs::file_time_type time = fs::last_write_time(path, missing);
    if (!missing) found.push_back({time, path});
  }
  std::sort(found.begin(), found.end(), [](const Candidate& a, const Candidate& b) {
    return std::pair(a.time, a.path.parent_path().filename()) > std::pair(b.time, b.path.parent_path().filename());
  });
  return found;
}

std::string age_text(fs::file_time_type time) {
  using namespace std::chrono;
  const auto seconds =
      std::max<int64_t>(0, duration_cast<std::chrono::seconds>(fs::file_time_type::clock::now() - time).count());
  if (seconds < 120) return cat(seconds, " s");
  if (seconds < 2 * 3600) return cat(seconds / 60, " min");
  if (seconds < 48 * 3600) return cat(seconds / 3600, " h");
  return cat(seconds / 86400, " days");
}

// One candidate against one query.
class Matcher {
 public:
  Matcher(const TunedQuery& query, const json& best, std::string where)
      : query_(query), kind_(device_kind(query.device)), best_(best), where_(std::move(where)) {}

  // What the file was recorded for, if that is not this run: "device mps". Empty: it matches.
  std::string mismatch() {
    if (const std::string* device = text_field("device")) {
      if (device_kind(*device) != kind_) return cat("device ", printable(*device));
    }
    if (const std::string* backend = text_field("backend")) {
      if (canonical_backend(*backend, kind_) != canonical_backend(query_.backend, kind_)) {
        return cat("backend ", printable(*backend));
      }
    }
    return model_mismatch();
  }

  // Fields that could not be compared.
  [[nodiscard]] const std::vector<std::string>& uncompared() const { return uncompared_; }

 private:
  const std::string* text_field(const char* name) {
    const auto field = best_.find(name);
    if (field == best_.end()) {
      uncompared_.emplace_back(name);
      return nullptr;
    }
    if (!field->is_string()) fail(ExitCode::kUsage, name, where_, "text", field->dump());
    return field->get_ptr<const std::string*>();
  }

  std::string model_mismatch() {
    const auto model = best_.find("model");
    // A model recorded by name says nothing about its shape.
    if (model == best_.end() || model->is_string() || !query_.model) {
      uncompared_.emplace_back("model");
      return {};
    }
    if (!model->is_object()) fail(ExitCode::kUsage, "model", where_, "an object or a name", model->dump());
    const std::array<std::pair<const char*, int64_t>, 4> fields = {{{"embedding_dim", query_.model->embedding_dim},
                                                                    {"num_blocks", query_.model->num_blocks},
                                                                    {"num_heads", query_.model->num_heads},
                                                                    {"vocab_size", query_.model->vocab_size}}};
    for (const auto& [name, expected] : fields) {
      const auto field = model->find(name);
      if (field == model->end()) {
        uncompared_.emplace_back(cat("model.", name));
        continue;
      }
      if (!field->is_number_integer()) fail(ExitCode::kUsage, cat("model.", name), where_, "an integer", field->dump());
      if (*field != expected) return cat("model.", name, ' ', field->dump());
    }
    return {};
  }

  const TunedQuery& query_;
  std::string kind_;
  const json& best_;
  std::string where_;
  std::vector<std::string> uncompared_;
};

// The recorded value of an option: its own name before the short form, "params" before the top level.
const json* recorded(const json& best, const TunedKey& names) {
  const auto params = best.find("params");
  const std::array<const json*, 2> places = {params != best.end() ? &*params : nullptr, &best};
  for (const json* place : places) {
    if (place == nullptr) continue;
    for (const std::string_view name : {names.key, names.short_key}) {
      const auto found = name.empty() ? place->end() : place->find(name);
      if (found != place->end()) return &*found;
    }
  }
  return nullptr;
}

std::vector<Setting> read_settings(const json& best, const std::string& where) {
  if (const auto params = best.find("params"); params != best.end() && !params->is_object()) {
    fail(ExitCode::kUsage, "params", where, "an object", params->dump());
  }
  std::vector<Setting> settings;
  RuntimeOpts scratch;
  for (const TunedKey& names : kTunedKeys) {
    const json* value = recorded(best, names);
    if (value == nullptr) continue;
    const Option* option = find_option(names.key);
    XLSTM_ASSERT(option != nullptr);
    set_option(scratch, *option, *value, {std::string(names.key), where});
    settings.push_back({option, *value});
  }
  if (settings.empty()) fail(ExitCode::kUsage, "tuned result", where, "chunk_size or heads_per_band", "neither");
  return settings;
}

std::string settings_text(const std::vector<Setting>& settings) {
  std::vector<std::string> parts;
  for (const Setting& setting : settings) parts.push_back(cat(setting.option->key, ' ', setting.value.dump()));
  return join(parts, ", ");
}

}  // namespace

std::optional<Layer> find_tuned_result(const TunedQuery& query, std::vector<std::string>& notes) {
  std::vector<std::string> others;  // results for something else; often many, so they share one note
  std::optional<Layer> layer;
  for (const Candidate& candidate : candidates(query.runs_dir)) {
    const std::string where = candidate.path.string();
    try {
      const JsonObject file = read_config_file(candidate.path);
      Matcher matcher(query, file.value, where);
      if (const std::string other = matcher.mismatch(); !other.empty()) {
        others.push_back(cat(where, " is for ", other));
        continue;
      }
      std::vector<Setting> settings = read_settings(file.value, where);
      if (!matcher.uncompared().empty()) {
        notes.push_back(cat("tuned result ", where, " matches without comparing ", join(matcher.uncompared(), ", ")));
      }
      notes.push_back(
          cat("tuned result ", where, ", ", age_text(candidate.time), " old, sets ", settings_text(settings)));
      layer = Layer{
          where, cat("newest tuned result for ", query.backend, " on ", device_kind(query.device), " and this model"),
          std::move(settings)};
      break;
    } catch (const Error& error) {
      notes.push_back(cat("tuned result passed over: ", error.what()));
    }
  }
  if (others.size() == 1) notes.push_back(cat("tuned result passed over: ", others.front()));
  if (others.size() > 1) {
    notes.push_back(cat(others.size(),
                        " newer tuned results passed over: they are for another device, backend or model; ",
                        others.front()));
  }
  return layer;
}

}  // namespace xlstm
