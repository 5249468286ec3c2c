#include "xlstm/monitor/report.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <vector>

#include "src/monitor/cells.h"
#include "xlstm/core/run_status.h"
#include "xlstm/core/str.h"

namespace xlstm {
namespace {

struct Column {
  const char* heading;
  Align align;
};
constexpr Column kColumns[] = {
    {"PID", Align::kRight},    {"COMMAND", Align::kLeft},    {"MODEL", Align::kLeft},   {"DEVICE", Align::kLeft},
    {"DTYPE", Align::kLeft},   {"PHASE", Align::kLeft},      {"DONE", Align::kRight},   {"TOK/S", Align::kRight},
    {"RSS_MB", Align::kRight}, {"DEVICE_MB", Align::kRight}, {"PROFILE", Align::kLeft},
};
constexpr size_t kColumnCount = std::size(kColumns);
constexpr Charset kPlain = Charset::kUnicode;  // names go out as they are: a pipe has no fonts

std::string or_dash(const std::string& text) {
  return text.empty() ? "-" : clean_text(text, kPlain);
}

std::vector<std::string> row_of(const RunningProcess& process) {
  const RunRecord& r = process.record;
  return {std::to_string(r.pid),
          or_dash(r.command),
          or_dash(r.model),
          or_dash(r.device),
          or_dash(r.dtype),
          process.silent_s < kSilentAfter ? or_dash(r.phase) : "silent",
          progress_text(r),
          speed_text(r.tok_s),
          r.rss_mb > 0 ? fixed(r.rss_mb, 0) : "-",
          r.device_mb > 0 ? fixed(r.device_mb, 0) : "-",
          or_dash(r.profile)};
}

bool counts_bytes(const RunRecord& record) {
  return record.phase == phase_name(RunPhase::kLoad);
}

// What `done` counts, with a blank before it; empty where that depends on the command.
std::string unit_of(const std::string& phase) {
  if (phase == phase_name(RunPhase::kPrefill) || phase == phase_name(RunPhase::kDecode)) return " tokens";
  return phase == phase_name(RunPhase::kTune) ? " trials" : "";
}

}  // namespace

std::string size_text(double mb) {
  constexpr double kMost = 1e12;  // far above any memory, far below what an integer holds
  return bytes_text(static_cast<uint64_t>(std::clamp(mb, 0.0, kMost) * 1e6));
}

std::string speed_text(double tok_s) {
  return fixed(tok_s, tok_s < 9.995 ? 2 : tok_s < 99.95 ? 1 : 0);
}

double done_share(const RunRecord& record) {
  if (record.total <= 0) return 0;
  return std::min(1.0, static_cast<double>(record.done) / static_cast<double>(record.total));
}

std::string progress_text(const RunRecord& record) {
  if (record.total > 0) return cat(static_cast<int>(done_share(record) * 100), '%');
  if (record.done == 0) return "-";
  return counts_bytes(record) ? bytes_text(static_cast<uint64_t>(record.done)) : std::to_string(record.done);
}

std::string done_text(const RunRecord& record) {
  if (counts_bytes(record)) {
    const std::string done = bytes_text(static_cast<uint64_t>(record.done));
    return record.total > 0 ? cat(done, " of ", bytes_text(static_cast<uint64_t>(record.total))) : done;
  }
  const std::string unit = unit_of(record.phase);
  if (record.total > 0) return cat(record.done, " of ", record.total, unit);
  return record.done > 0 ? cat(record.done, unit) : std::string();
}

std::string table_text(const Look& look) {
  if (look.processes.empty()) return cat(kNoProcess, "\n");
  std::vector<std::vector<std::string>> rows;
  std::vector<std::string> headings;
  for (const Column& column : kColumns) headings.emplace_back(column.heading);
  rows.push_back(std::move(headings));
  for (const RunningProcess& process : look.processes) rows.push_back(row_of(process));

  std::vector<size_t> widths(kColumnCount, 0);
  for (const auto& row : rows) {
    for (size_t i = 0; i < kColumnCount; ++i) widths[i] = std::max(widths[i], cell_width(row[i]));
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < kColumnCount; ++i) {
      line += cat(i == 0 ? "" : "  ", fit(row[i], widths[i], kPlain, kColumns[i].align));
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

nlohmann::ordered_json look_json(const Look& look) {
  const auto milliseconds = [](double seconds) { return std::round(seconds * 1000) / 1000; };
  nlohmann::ordered_json processes = nlohmann::ordered_json::array();
  for (const RunningProcess& process : look.processes) {
    nlohmann::ordered_json json = to_json(process.record);
    json["silent_s"] = milliseconds(process.silent_s);
    processes.push_back(std::move(json));
  }
  nlohmann::ordered_json json;
  json["time"] = milliseconds(look.time);
  json["processes"] = std::move(processes);
  return json;
}

}  // namespace xlstm
