#include "src/bench/rounds.h"

#include <algorithm>
#include <chrono>

#include "src/bench/process_figures.h"
#include "xlstm/core/progress.h"
#include "xlstm/core/run_status.h"
#include "xlstm/core/stop.h"
#include "xlstm/core/thread_pool.h"

namespace xlstm {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  constexpr double kTick = 1e-9;  // a clock too coarse to see the work must not divide by zero
  return std::max(kTick, std::chrono::duration<double>(Clock::now() - start).count());
}

// One contestant's samples so far.
class Track {
 public:
  Track(const Contestant& contestant, const RoundSettings& settings) : contestant_(contestant), settings_(settings) {}

  [[nodiscard]] bool wants_more() const {
    if (static_cast<int64_t>(samples_.size()) < settings_.repeats) return true;
    return steady_ < settings_.repeats && static_cast<int64_t>(samples_.size()) < kAttempts * settings_.repeats &&
           rejected_seconds_ < kMostRejectedSeconds;
  }

  // Whether the sample counts.
  bool take_sample() {
    Sample sample;
    for (const Gauge& gauge : settings_.gauges) sample.gauges.push_back({gauge(), 0});
    const CoreTimes before = read_core_times();
    const double least = settings_.gauges.empty() ? 0 : kLeastSeconds;
    const Clock::time_point start = Clock::now();
    double seconds = 0;
    double runs = 0;
    do {
      throw_if_stopped();
      contestant_.run();
      ++runs;
      seconds = seconds_since(start);
    } while (seconds < least);
    if (!settings_.gauges.empty()) {
      sample.lost_share =
          lost_share(before, read_core_times(), seconds, std::min(settings_.threads, available_cores()));
    }
    for (size_t i = 0; i < settings_.gauges.size(); ++i) sample.gauges[i].after = settings_.gauges[i]();
    const double runs_per_s = runs / seconds;
    sample.tokens_per_s = static_cast<double>(contestant_.tokens) * runs_per_s;
    sample.work_per_s = contestant_.work * runs_per_s;
    const bool steady = is_steady(sample);
    samples_.push_back(std::move(sample));
    steady_ += steady ? 1 : 0;
    rejected_seconds_ += steady ? 0 : seconds;
    return steady;
  }

  [[nodiscard]] Rate rate() const { return summarize(samples_); }

 private:
  const Contestant& contestant_;
  const RoundSettings& settings_;
  std::vector<Sample> samples_;
  int64_t steady_ = 0;
  double rejected_seconds_ = 0;
};

}  // namespace

std::vector<Rate> measure_in_turns(const std::vector<Contestant>& contestants, const RoundSettings& settings) {
  const auto count = static_cast<int64_t>(contestants.size());
  Progress progress(RunPhase::kOther, "measuring", count * (settings.repeats + 1), settings.show_progress);
  std::vector<Track> tracks;
  for (const Contestant& contestant : contestants) {
    throw_if_stopped();
    contestant.prepare();
    contestant.run();
    tracks.emplace_back(contestant, settings);
    progress.advance(1);
  }
  for (bool more = true; more;) {
    more = false;
    for (size_t i = 0; i < tracks.size(); ++i) {
      if (!tracks[i].wants_more()) continue;
      throw_if_stopped();
      if (count > 1) contestants[i].prepare();
      if (tracks[i].take_sample()) progress.advance(1);
      more = more || tracks[i].wants_more();
    }
  }
  std::vector<Rate> rates;
  for (const Track& track : tracks) rates.push_back(track.rate());
  return rates;
}

}  // namespace xlstm
