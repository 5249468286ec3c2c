#include "xlstm/tune/comparison.h"

#include <cmath>
#include <utility>

#include "xlstm/core/statistics.h"

namespace xlstm {
namespace {

// The probability of `wins` or more heads in `pairs` tosses of a coin.
double coin_probability(int64_t pairs, int64_t wins) {
  const auto n = static_cast<double>(pairs);
  double probability = 0;
  for (int64_t heads = wins; heads <= pairs; ++heads) {
    const auto k = static_cast<double>(heads);
    probability += std::exp(std::lgamma(n + 1) - std::lgamma(k + 1) - std::lgamma(n - k + 1) - n * std::log(2.0));
  }
  return probability;
}

}  // namespace

double cost(const Timing& timing, TuneObjective objective) {
  switch (objective) {
    case TuneObjective::kPrefill: return timing.prefill_s;
    case TuneObjective::kDecode: return timing.decode_s;
    case TuneObjective::kTotal: return timing.prefill_s + timing.decode_s;
  }
  return 0;
}

Comparison compare(const std::vector<TimingPair>& pairs, TuneObjective objective) {
  Comparison result;
  if (pairs.empty()) return result;
  std::vector<double> ratios;
  for (const TimingPair& pair : pairs) {
    ratios.push_back(cost(pair.incumbent, objective) / cost(pair.candidate, objective));
    if (ratios.back() > 1) ++result.wins;
  }
  result.pairs = static_cast<int64_t>(ratios.size());
  result.median = median(ratios);
  result.lower_quartile = quantile(ratios, 0.25);
  result.upper_quartile = quantile(ratios, 0.75);
  return result;
}

bool clearly_faster(const Comparison& comparison) {
  constexpr double kChance = 0.02;
  // Half the pairs or fewer are never unlikely, and need no sum.
  return 2 * comparison.wins > comparison.pairs && coin_probability(comparison.pairs, comparison.wins) <= kChance;
}

Timing median_timing(const std::vector<Timing>& timings) {
  if (timings.empty()) return {};
  std::vector<double> prefill;
  std::vector<double> decode;
  for (const Timing& timing : timings) {
    prefill.push_back(timing.prefill_s);
    decode.push_back(timing.decode_s);
  }
  return {median(std::move(prefill)), median(std::move(decode))};
}

}  // namespace xlstm
