#include "xlstm/monitor/run_record.h"

#include <array>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <type_traits>

#include "xlstm/core/errors.h"
#include "xlstm/core/strict_json.h"

namespace xlstm {
namespace {

// Calls visit(key, member) for every member: the one list of the file's keys.
template <class Record, class Visit>
void for_each_field(Record& r, Visit&& visit) {
  visit("pid", r.pid);
  visit("start_id", r.start_id);
  visit("started", r.started);
  visit("written", r.written);
  visit("version", r.version);
  visit("command", r.command);
  visit("model", r.model);
  visit("device", r.device);
  visit("dtype", r.dtype);
  visit("kernel", r.kernel);
  visit("profile", r.profile);
  visit("phase", r.phase);
  visit("phase_s", r.phase_s);
  visit("done", r.done);
  visit("total", r.total);
  visit("prompt_tokens", r.prompt_tokens);
  visit("decoded_tokens", r.decoded_tokens);
  visit("tok_s", r.tok_s);
  visit("tok_s_phase", r.tok_s_phase);
  visit("rss_mb", r.rss_mb);
  visit("anon_mb", r.anon_mb);
  visit("soft_mb", r.soft_mb);
  visit("hard_mb", r.hard_mb);
  visit("device_mb", r.device_mb);
  visit("device_soft_mb", r.device_soft_mb);
  visit("device_hard_mb", r.device_hard_mb);
}

bool read_value(const nlohmann::json& value, int64_t& member) {
  if (!value.is_number_integer()) return false;
  if (value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{std::numeric_limits<int64_t>::max()}) return false;
  member = value.get<int64_t>();
  return member >= 0;
}

bool read_value(const nlohmann::json& value, double& member) {
  if (!value.is_number()) return false;
  member = value.get<double>();
  return std::isfinite(member) && member >= 0;
}

bool read_value(const nlohmann::json& value, std::string& member) {
  if (!value.is_string()) return false;
  member = value.get<std::string>();
  return true;
}

constexpr std::array kRequired = {"pid", "start_id", "written", "command", "phase"};

std::optional<RunRecord> record_from(const nlohmann::json& json) {
  for (const char* key : kRequired) {
    if (!json.contains(key)) return std::nullopt;
  }
  RunRecord record;
  bool good = true;
  for_each_field(record, [&](const char* key, auto& member) {
    const auto value = json.find(key);
    if (value != json.end()) good = read_value(*value, member) && good;
  });
  if (!good || record.pid == 0) return std::nullopt;
  return record;
}

}  // namespace

nlohmann::ordered_json to_json(const RunRecord& record) {
  nlohmann::ordered_json json;
  for_each_field(record, [&](const char* key, const auto& member) {
    if constexpr (std::is_same_v<std::decay_t<decltype(member)>, double>) {
      json[key] = std::isfinite(member) ? std::round(member * 1000) / 1000 : 0.0;
    } else {
      json[key] = member;
    }
  });
  return json;
}

std::optional<RunRecord> parse_run_record(std::string_view text) {
  try {
    return record_from(parse_strict_json(text, "status file", JsonRules{}).value);
  } catch (const Error&) {
    return std::nullopt;
  }
}

MemoryMark memory_mark(double mb, double soft_mb, double hard_mb) {
  if (hard_mb > 0 && mb >= hard_mb) return MemoryMark::kHard;
  if (soft_mb > 0 && mb >= soft_mb) return MemoryMark::kSoft;
  return MemoryMark::kBelow;
}

MemoryMark host_memory_mark(const RunRecord& record) {
  return memory_mark(record.anon_mb, record.soft_mb, record.hard_mb);
}

MemoryMark device_memory_mark(const RunRecord& record) {
  return memory_mark(record.device_mb, record.device_soft_mb, record.device_hard_mb);
}

}  // namespace xlstm
