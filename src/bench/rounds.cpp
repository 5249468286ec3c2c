#include "src/bench/rounds.h"

#include <algorithm>
#include <chrono>

#include "xlstm/core/errors.h"
#include "xlstm/core/progress.h"
#include "xlstm/core/run_status.h"
#include "xlstm/core/stop.h"

namespace xlstm {

Rate summarize(std::vector<double> rates) {
  XLSTM_ASSERT(!rates.empty());
  std::sort(rates.begin(), rates.end());
  const size_t middle = rates.size() / 2;
  const double median = rates.size() % 2 == 1 ? rates[middle] : (rates[middle - 1] + rates[middle]) / 2;
  return {median, rates.front(), rates.back()};
}

std::vector<Rate> measure_in_turns(const std::vector<Contestant>& contestants, int64_t repeats, bool show_progress) {
  using Clock = std::chrono::steady_clock;
  const auto count = static_cast<int64_t>(contestants.size());
  Progress progress(RunPhase::kOther, "measuring", count * (repeats + 1), show_progress);
  std::vector<std::vector<double>> rates(contestants.size());
  for (int64_t round = 0; round <= repeats; ++round) {
    for (size_t i = 0; i < contestants.size(); ++i) {
      throw_if_stopped();
      const Contestant& contestant = contestants[i];
      if (round == 0 || count > 1) contestant.prepare();
      const auto start = Clock::now();
      contestant.run();
      const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
      if (round > 0) rates[i].push_back(static_cast<double>(contestant.tokens) / seconds);
      progress.advance(1);
    }
  }
  std::vector<Rate> summary;
  for (std::vector<double>& of_one : rates) summary.push_back(summarize(std::move(of_one)));
  return summary;
}

}  // namespace xlstm
