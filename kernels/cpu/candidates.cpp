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

static_assert(kLanes <= 16);  // kMostLanes below

using IntTag = hn::Rebind<int32_t, FloatTag>;
using IntVec = hn::Vec<IntTag>;
constexpr IntTag kInt{};
constexpr hn::ScalableTag<int64_t> kLong{};
constexpr auto kLongLanes = static_cast<int64_t>(hn::MaxLanes(kLong));

HWY_INLINE FloatVec nan_as_infinity(FloatVec v) {
  return hn::IfThenElse(hn::IsNaN(v), hn::Inf(kFloat), v);
}

// Integers in the order of the values; NaN as +inf, -0 as 0.
HWY_INLINE IntVec ranks_of(FloatVec v) {
  const IntVec bits = hn::BitCast(kInt, hn::Add(nan_as_infinity(v), hn::Zero(kFloat)));
  const IntVec negative = hn::BroadcastSignBit(bits);
  return hn::Xor(bits, hn::And(negative, hn::Set(kInt, std::numeric_limits<int32_t>::max())));
}

// Highway 1.0 compares integers only this way round.
HWY_INLINE hn::Mask<IntTag> at_least(IntVec a, IntVec b) {
  return hn::Not(hn::Lt(a, b));
}

// bests[b] = the greatest rank of logits[b], logits[b + blocks], logits[b + 2·blocks], …; blocks ≤ vocab. Behind them
// the least there is, up to whole vectors.
void run_bests(const float* HWY_RESTRICT logits, int64_t vocab, int64_t blocks, int32_t* HWY_RESTRICT bests) {
  for (int64_t b = 0; b < blocks; b += kLanes) {
    const int64_t lanes = std::min<int64_t>(kLanes, blocks - b);
    IntVec best = hn::Set(kInt, std::numeric_limits<int32_t>::min());
    const auto inside = hn::FirstN(kInt, static_cast<size_t>(lanes));
    for (int64_t i = b; i < vocab; i += blocks) {
      const int64_t there = std::min(lanes, vocab - i);
      const IntVec ranks = ranks_of(load_some(logits + i, i + kLanes <= vocab ? kLanes : there));
      const auto counts = there < lanes ? hn::FirstN(kInt, static_cast<size_t>(there)) : inside;
      best = hn::IfThenElse(counts, hn::Max(best, ranks), best);
    }
    hn::StoreU(best, kInt, bests + b);
  }
}

// Of `blocks` bests, filled up as run_bests() does: a rank that at least `count` of them reach, and hardly more.
int32_t run_reached(const int32_t* HWY_RESTRICT bests, int64_t blocks, int64_t count) {
  IntVec greatest = hn::LoadU(kInt, bests);
  for (int64_t b = kLanes; b < blocks; b += kLanes) greatest = hn::Max(greatest, hn::LoadU(kInt, bests + b));
  // `low` is reached by `count`, `high` is not.
  int64_t low = std::numeric_limits<int32_t>::min();
  int64_t high = int64_t{hn::GetLane(hn::MaxOfLanes(kInt, greatest))} + 1;
  const int64_t enough = count + count / 4;
  for (int64_t reached = blocks; reached > enough && high - low > 1;) {
    const int64_t middle = low + (high - low) / 2;
    const IntVec least = hn::Set(kInt, static_cast<int32_t>(middle));
    int64_t now = 0;
    for (int64_t b = 0; b < blocks; b += kLanes) {
      now += static_cast<int64_t>(hn::CountTrue(kInt, at_least(hn::LoadU(kInt, bests + b), least)));
    }
    if (now >= count) {
      low = middle;
      reached = now;
    } else {
      high = middle;
    }
  }
  return static_cast<int32_t>(low);
}

// A key of each logit whose rank is `least` or greater: rank, then what is left of 2³² - 1 by the id. Looks only where
// the bests say that there is one. Returns their number; `keys` has room for all, and a vector more.
int64_t run_keys(const float* HWY_RESTRICT logits, int64_t vocab, const int32_t* HWY_RESTRICT bests, int64_t blocks,
                 int32_t least, int64_t* HWY_RESTRICT keys) {
  const IntVec limit = hn::Set(kInt, least);
  int64_t count = 0;
  for (int64_t b = 0; b < blocks; b += kLanes) {
    if (hn::AllFalse(kInt, at_least(hn::LoadU(kInt, bests + b), limit))) continue;
    for (int64_t first = b; first < vocab; first += blocks) {
      const int64_t lanes = std::min({int64_t{kLanes}, blocks - b, vocab - first});
      const IntVec ranks = ranks_of(load_some(logits + first, first + kLanes <= vocab ? kLanes : lanes));
      if (hn::AllFalse(kInt, at_least(ranks, limit))) continue;
      HWY_ALIGN int32_t of_lanes[kLanes];
      hn::Store(ranks, kInt, of_lanes);
      for (int64_t lane = 0; lane < lanes; ++lane) {
        if (of_lanes[lane] < least) continue;
        keys[count++] = static_cast<int64_t>(static_cast<uint64_t>(of_lanes[lane]) << 32 |
                                             (0xffffffffU - static_cast<uint32_t>(first + lane)));
      }
    }
  }
  return count;
}

// order[i] = the number of keys greater than keys[i], for i < count; keys differ and are filled up with the least there
// is to whole vectors.
void run_order(const int64_t* HWY_RESTRICT keys, int64_t count, int32_t* HWY_RESTRICT order) {
  for (int64_t i = 0; i < count; ++i) {
    const auto key = hn::Set(kLong, keys[i]);
    size_t greater = 0;
    for (int64_t j = 0; j < count; j += kLongLanes) {
      greater += hn::CountTrue(kLong, hn::Gt(hn::LoadU(kLong, keys + j), key));
    }
    order[i] = static_cast<int32_t>(greater);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace xlstm::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace xlstm::cpu {

HWY_EXPORT(run_bests);
HWY_EXPORT(run_reached);
HWY_EXPORT(run_keys);
HWY_EXPORT(run_order);

namespace {

// No vector has more elements.
constexpr int64_t kMostLanes = 16;

// Grows `values` to `count` of them and a vector.
template <class T>
T* room_for(std::vector<T>& values, int64_t count) {
  const auto size = static_cast<size_t>(count + kMostLanes);
  if (values.size() < size) values.resize(size);
  return values.data();
}

}  // namespace

// Each of the `count` blocks with the greatest bests has a logit that is at least as great as the least of these bests:
// no smaller logit is among the `count` greatest.
const FoundLogit* find_greatest(const float* logits, int64_t vocab, int64_t count, CandidateScratch& scratch) {
  // Few blocks make the search of the bests short, many leave few other logits behind it.
  const auto balanced = static_cast<int64_t>(std::sqrt(static_cast<double>(vocab) * static_cast<double>(count)));
  const int64_t blocks = std::clamp(balanced, count, vocab);
  int32_t* const bests = room_for(scratch.bests, blocks);
  HWY_DYNAMIC_DISPATCH(run_bests)(logits, vocab, blocks, bests);
  const int32_t least = HWY_DYNAMIC_DISPATCH(run_reached)(bests, blocks, count);

  int64_t* const keys = room_for(scratch.keys, vocab);
  int64_t found = HWY_DYNAMIC_DISPATCH(run_keys)(logits, vocab, bests, blocks, least, keys);
  if (found > 4 * count) {  // comparing all with all would take long
    std::nth_element(keys, keys + count, keys + found, std::greater<>());
    found = count;
  }
  std::fill_n(keys + found, kMostLanes, std::numeric_limits<int64_t>::min());
  int32_t* const order = room_for(scratch.order, found);
  HWY_DYNAMIC_DISPATCH(run_order)(keys, found, order);
  FoundLogit* const sorted = room_for(scratch.found, found);
  for (int64_t i = 0; i < found; ++i) {
    const auto id = static_cast<int32_t>(0xffffffffU - static_cast<uint32_t>(keys[i]));
    sorted[order[i]] = {id, logits[id]};
  }
  return sorted;
}

}  // namespace xlstm::cpu
#endif
