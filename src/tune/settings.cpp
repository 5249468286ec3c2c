#include "xlstm/tune/settings.h"

#include <algorithm>
#include <array>
#include <functional>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>
#include <vector>

#include "xlstm/core/errors.h"
#include "xlstm/core/files.h"
#include "xlstm/core/str.h"
#include "xlstm/core/strict_json.h"

namespace xlstm {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

struct Place {
  std::string what;   // "optimizer.heads"
  std::string where;  // the file
};

constexpr std::array<std::pair<const char*, TuneMode>, 3> kModes = {
    {{"random", TuneMode::kRandom}, {"ga", TuneMode::kGa}, {"grid", TuneMode::kGrid}}};
constexpr std::array<std::pair<const char*, TuneObjective>, 3> kObjectives = {
    {{"prefill", TuneObjective::kPrefill}, {"decode", TuneObjective::kDecode}, {"total", TuneObjective::kTotal}}};

template <class Table>
const char* name_in(const Table& table, decltype(table.front().second) value) {
  const auto* entry = std::find_if(table.begin(), table.end(), [&](const auto& e) { return e.second == value; });
  XLSTM_ASSERT(entry != table.end());
  return entry->first;
}

template <class Table>
auto value_in(const Table& table, const std::string& name) {
  const auto* entry = std::find_if(table.begin(), table.end(), [&](const auto& e) { return e.first == name; });
  XLSTM_ASSERT(entry != table.end());
  return entry->second;
}

std::string read_text(const json& value, const Place& place) {
  if (!value.is_string()) fail(ExitCode::kUsage, place.what, place.where, "text", json_kind(value));
  return value.get<std::string>();
}

template <class Table>
auto read_name(const Table& table, const json& value, const Place& place) {
  std::vector<std::string> names;
  for (const auto& entry : table) names.emplace_back(entry.first);
  if (!value.is_string() || std::find(names.begin(), names.end(), value.get<std::string>()) == names.end()) {
    fail(ExitCode::kUsage, place.what, place.where, cat("one of ", join(names, ", ")),
         value.is_string() ? printable(value.dump()) : json_kind(value));
  }
  return value_in(table, value.get<std::string>());
}

// The limits of the same flags.
constexpr TuneRange kTrials = {1, 100'000};
constexpr TuneRange kPopulation = {2, 100'000};
constexpr TuneRange kRepeats = {1, 10'000};
constexpr TuneRange kTokens = {1, 100'000'000};
constexpr TuneRange kHeads = {1, 65'536};
constexpr TuneRange kChunks = {1, 1024};
constexpr TuneRange kWorkers = {0, 256};

bool is_integer_in(const json& value, const TuneRange& limits) {
  return value.is_number_integer() && value >= limits.min && value <= limits.max;
}

int64_t read_integer(const json& value, const TuneRange& limits, const Place& place) {
  if (!is_integer_in(value, limits)) {
    fail(ExitCode::kUsage, place.what, place.where, cat("an integer from ", limits.min, " to ", limits.max),
         json_kind(value));
  }
  return value.get<int64_t>();
}

TuneRange read_range(const json& value, const TuneRange& limits, const Place& place) {
  const bool right = value.is_array() && value.size() == 2 && is_integer_in(value[0], limits) &&
                     is_integer_in(value[1], limits) && value[0] <= value[1];
  if (!right) {
    fail(ExitCode::kUsage, place.what, place.where,
         cat("a range [lowest, highest] within ", limits.min, " to ", limits.max),
         value.is_array() ? printable(value.dump()) : json_kind(value));
  }
  return {value[0].get<int64_t>(), value[1].get<int64_t>()};
}

json range_json(const TuneRange& range) {
  return {range.min, range.max};
}

// A key of the object: how it is read and written. A null is not written.
struct Key {
  std::string_view name;
  void (*read)(TuneSettings&, const json&, const Place&);
  json (*write)(const TuneSettings&);
};

template <int64_t TuneSettings::*kMember, const TuneRange& kLimits>
constexpr Key integer_key(std::string_view name) {
  return {name, [](TuneSettings& s, const json& v, const Place& p) { s.*kMember = read_integer(v, kLimits, p); },
          [](const TuneSettings& s) { return json(s.*kMember); }};
}

template <std::string TuneSettings::*kMember>
constexpr Key text_key(std::string_view name) {
  return {name, [](TuneSettings& s, const json& v, const Place& p) { s.*kMember = read_text(v, p); },
          [](const TuneSettings& s) { return json(s.*kMember); }};
}

template <std::optional<TuneRange> TuneSettings::*kMember, const TuneRange& kLimits>
constexpr Key range_key(std::string_view name) {
  return {name, [](TuneSettings& s, const json& v, const Place& p) { s.*kMember = read_range(v, kLimits, p); },
          [](const TuneSettings& s) { return s.*kMember ? range_json(*(s.*kMember)) : json(); }};
}

constexpr std::array kKeys = {
    text_key<&TuneSettings::backend>("backend"),
    Key{"mode", [](TuneSettings& s, const json& v, const Place& p) { s.mode = read_name(kModes, v, p); },
        [](const TuneSettings& s) { return json(mode_name(s.mode)); }},
    Key{"objective", [](TuneSettings& s, const json& v, const Place& p) { s.objective = read_name(kObjectives, v, p); },
        [](const TuneSettings& s) { return json(objective_name(s.objective)); }},
    integer_key<&TuneSettings::trials, kTrials>("trials"),
    integer_key<&TuneSettings::generations, kTrials>("generations"),
    integer_key<&TuneSettings::population, kPopulation>("population"),
    integer_key<&TuneSettings::repeats, kRepeats>("repeats"),
    Key{"chunks", [](TuneSettings& s, const json& v, const Place& p) { s.chunks = read_range(v, kChunks, p); },
        [](const TuneSettings& s) { return range_json(s.chunks); }},
    range_key<&TuneSettings::heads, kHeads>("heads"),
    range_key<&TuneSettings::workers, kWorkers>("workers"),
    integer_key<&TuneSettings::prompt_tokens, kTokens>("prompt_tokens"),
    integer_key<&TuneSettings::new_tokens, kTokens>("new"),
    text_key<&TuneSettings::prompt_file>("prompt_file"),
    text_key<&TuneSettings::tag>("tag"),
};

}  // namespace

const char* mode_name(TuneMode mode) {
  return name_in(kModes, mode);
}

const char* objective_name(TuneObjective objective) {
  return name_in(kObjectives, objective);
}

TuneMode mode_of(const std::string& name) {
  return value_in(kModes, name);
}

TuneObjective objective_of(const std::string& name) {
  return value_in(kObjectives, name);
}

void apply_settings(TuneSettings& settings, const json& optimizer, const std::string& where) {
  for (const auto& [name, value] : optimizer.items()) {
    if (name.starts_with('_')) continue;
    const auto* key = std::find_if(kKeys.begin(), kKeys.end(), [&](const Key& known) { return known.name == name; });
    if (key == kKeys.end()) {
      std::vector<std::string> names;
      for (const Key& known : kKeys) names.emplace_back(known.name);
      const std::string near = nearest(name, names);
      fail(ExitCode::kUsage, "key", cat(where, ", optimizer"),
           near.empty() ? cat("one of ", join(names, ", ")) : cat("a known one, did you mean ", near, '?'),
           cat('"', printable(name), '"'));
    }
    key->read(settings, value, {cat("optimizer.", name), where});
  }
}

std::vector<std::string> read_settings_file(TuneSettings& settings, const std::filesystem::path& path) {
  const std::string where = path.string();
  const JsonObject file =
      parse_strict_json(read_regular_file(path, ExitCode::kUsage), where, {ExitCode::kUsage, "JSON text", false});
  const auto optimizer = file.value.find("optimizer");
  if (optimizer == file.value.end() || !optimizer->is_object()) {
    fail(ExitCode::kUsage, "optimizer", where, "an object with the settings of the search",
         optimizer == file.value.end() ? "none" : json_kind(*optimizer));
  }
  apply_settings(settings, *optimizer, cat(where, ':', file.lines.at("optimizer")));
  std::vector<std::string> others;
  for (const auto& [key, value] : file.value.items()) {
    if (!key.starts_with('_') && !value.is_object()) others.push_back(key);
  }
  return others;
}

ordered_json to_json(const TuneSettings& settings) {
  ordered_json object;
  for (const Key& key : kKeys) {
    if (json value = key.write(settings); !value.is_null()) object[std::string(key.name)] = std::move(value);
  }
  return object;
}

}  // namespace xlstm
