// The CSV file that --stats-log names: one row every stats_every decode steps.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "xlstm/core/files.h"
#include "xlstm/runtime/generator.h"

namespace xlstm {

// Columns: step,dt_ms,cum_ms,inst_tok_s,avg_tok_s. A row covers the steps since the row before: dt_ms is their mean.
// An empty path writes nothing. The file appears at finish(), or at destruction when a run fails half-way; after a row
// that could not be written it does not appear at all.
class StatsLog {
 public:
  StatsLog(const std::string& path, int64_t every);
  ~StatsLog();
  StatsLog(const StatsLog&) = delete;
  StatsLog& operator=(const StatsLog&) = delete;

  void add(const StepTiming& timing);
  void finish();  // Error kOutput

 private:
  void write_row(const StepTiming& timing);

  std::optional<AtomicFile> file_;
  int64_t every_;
  int64_t pending_steps_ = 0;
  double pending_seconds_ = 0;
  double total_seconds_ = 0;
};

}  // namespace xlstm
