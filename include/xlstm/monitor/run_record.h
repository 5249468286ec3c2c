// What one running process says about itself: the content of its status file.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace xlstm {

// The members are the keys of the JSON file. Texts may hold anything; whoever prints them makes them printable.
struct RunRecord {
  int64_t pid = 0;
  int64_t start_id = 0;  // process_state().start_id
  double started = 0;    // when the run began, seconds since 1970
  double written = 0;    // when this was written, seconds since 1970
  std::string version;
  std::string command;  // "generate", …
  std::string model;
  std::string device;
  std::string dtype;
  std::string kernel;
  std::string profile;
  std::string phase;   // phase_name() of core/run_status.h
  double phase_s = 0;  // seconds since the phase began
  int64_t done = 0;    // of the phase: bytes in "load", trials in "tune", else tokens
  int64_t total = 0;   // of the phase; 0: not known
  int64_t prompt_tokens = 0;
  int64_t decoded_tokens = 0;
  double tok_s = 0;        // over the last second or so
  double tok_s_phase = 0;  // since the phase began
  double rss_mb = 0;       // MB = 10^6 bytes, here and below
  double anon_mb = 0;      // what the memory guard judges
  double soft_mb = 0;      // the guard's lines for it; 0: none
  double hard_mb = 0;
  double device_mb = 0;
  double device_soft_mb = 0;
  double device_hard_mb = 0;

  bool operator==(const RunRecord&) const = default;
};

[[nodiscard]] nlohmann::ordered_json to_json(const RunRecord& record);

// nullopt for a text that is no such record: not JSON, a value of another type or below zero, or one of pid, start_id,
// written, command and phase missing. What else is missing keeps its default, and unknown keys are passed over, so that
// versions can read each other's.
[[nodiscard]] std::optional<RunRecord> parse_run_record(std::string_view text);

enum class MemoryMark { kBelow, kSoft, kHard };  // below both lines, at or above the soft one, the hard one
[[nodiscard]] MemoryMark memory_mark(double mb, double soft_mb, double hard_mb);
[[nodiscard]] MemoryMark host_memory_mark(const RunRecord& record);
[[nodiscard]] MemoryMark device_memory_mark(const RunRecord& record);

}  // namespace xlstm
