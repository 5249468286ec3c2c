#include "kernels/cpu/candidates.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "kernels/cpu/simd_targets.h"
//
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/candidates.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
//
#include "kernels/cpu/simd_common-inl.h"

HWY_BEFORE_NAMESPACE();
namespace xlstm::cpu {
namespace HWY_NAMESPACE {

HWY_INLINE FloatVec nan_as_infinity(FloatVec v) {
  return hn::IfThenElse(hn::IsNaN(v), hn::Inf(kFloat), v);
}

// bests[b] = the greatest of logits[b], logits[b + blocks], logits[b + 2·blocks], …; blocks ≤ vocab.
void run_bests(const float* HWY_RESTRICT logits, int64_t vocab, int64_t blocks, float* HWY_RESTRICT bests) {
  for (int64_t b = 0; b < blocks; b += kLanes) {
    const int64_t lanes = std::min<int64_t>(kLanes, blocks - b);
    FloatVec best = nan_as_infinity(load_some(logits + b, lanes));
    int64_t i = b + blocks;
    for (; i + kLanes <= vocab; i += blocks) best = hn::Max(best, nan_as_infinity(load(logits + i)));
    store_some(best, bests + b, lanes);
    for (; i < vocab; i += blocks) {
      for (int64_t lane = 0; lane < std::min(lanes, vocab - i); ++lane) {
        const float v = logits[i + lane];
        bests[b + lane] = std::max(bests[b + lane], v == v ? v : std::numeric_limits<float>::infinity());
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace xlstm::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace xlstm::cpu {

HWY_EXPORT(run_bests);

namespace {

float rank(float logit) {
  return std::isnan(logit) ? std::numeric_limits<float>::infinity() : logit;
}

}  // namespace

// Each of the `count` blocks with the greatest bests has a logit that is at least as great as the least of these bests:
// no smaller logit is among the `count` greatest.
const FoundLogit* find_greatest(const float* logits, int64_t vocab, int64_t count, CandidateScratch& scratch) {
  // Few blocks make the search of the bests short, many that within the blocks.
  const auto balanced = static_cast<int64_t>(std::sqrt(static_cast<double>(vocab) * static_cast<double>(count)));
  const int64_t blocks = std::clamp(balanced, count, vocab);
  scratch.bests.resize(static_cast<size_t>(blocks));
  HWY_DYNAMIC_DISPATCH(run_bests)(logits, vocab, blocks, scratch.bests.data());
  scratch.ranked = scratch.bests;
  const auto last = scratch.ranked.begin() + static_cast<std::ptrdiff_t>(count - 1);
  std::nth_element(scratch.ranked.begin(), last, scratch.ranked.end(), std::greater<>());
  const float least = *last;

  scratch.found.clear();
  for (int64_t block = 0; block < blocks; ++block) {
    if (scratch.bests[static_cast<size_t>(block)] < least) continue;
    for (int64_t id = block; id < vocab; id += blocks) {
      if (rank(logits[id]) >= least) scratch.found.push_back({static_cast<int32_t>(id), logits[id]});
    }
  }
  const auto end = scratch.found.begin() + static_cast<std::ptrdiff_t>(count);
  std::partial_sort(scratch.found.begin(), end, scratch.found.end(), [](const FoundLogit& a, const FoundLogit& b) {
    const float rank_a = rank(a.logit);
    const float rank_b = rank(b.logit);
    return rank_a != rank_b ? rank_a > rank_b : a.id < b.id;
  });
  return scratch.found.data();
}

}  // namespace xlstm::cpu
#endif
