#include "src/bench/samples.h"

#include <algorithm>
#include <cmath>

#include "xlstm/core/errors.h"
#include "xlstm/core/statistics.h"

namespace xlstm {

bool is_steady(const Sample& sample) {
  return sample.lost_share <= kMostLost &&
         std::all_of(sample.gauges.begin(), sample.gauges.end(), [](const GaugePair& pair) {
           return std::abs(pair.before - pair.after) <= kMostDrift * std::max(pair.before, pair.after);
         });
}

double share_of(const Sample& sample, const GaugePair& gauge) {
  return sample.work_per_s / ((gauge.before + gauge.after) / 2);
}

Rate summarize(const std::vector<Sample>& samples) {
  XLSTM_ASSERT(!samples.empty());
  std::vector<Sample> counted;
  std::copy_if(samples.begin(), samples.end(), std::back_inserter(counted), is_steady);
  Rate rate;
  rate.rejected = static_cast<int64_t>(samples.size() - counted.size());
  const bool steady = !counted.empty();
  if (!steady) counted = samples;
  rate.samples = static_cast<int64_t>(counted.size());

  std::vector<double> speeds;
  for (const Sample& sample : counted) speeds.push_back(sample.tokens_per_s);
  const auto [slowest, fastest] = std::minmax_element(speeds.begin(), speeds.end());
  rate.min = *slowest;
  rate.max = *fastest;
  rate.median = median(speeds);
  for (size_t i = 0; i < counted.front().gauges.size(); ++i) {
    std::vector<double> shares;
    for (const Sample& sample : counted) shares.push_back(share_of(sample, sample.gauges[i]));
    rate.shares.push_back(steady ? std::optional(median(std::move(shares))) : std::nullopt);
  }
  return rate;
}

}  // namespace xlstm
