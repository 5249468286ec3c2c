// Drawing a token from the greatest logits of a row, with the sums of Sampler (src/text/sampler.cpp) in their order, so
// that the two draw the same. A block has a row, a thread a candidate; what is summed in order, one thread sums.
#include "kernels/cuda/choice.h"

#include "kernels/cuda/kernel.h"
#include "kernels/cuda/rows.h"
#include "xlstm/core/errors.h"
#include "xlstm/core/exponential.h"
#include "xlstm/core/philox.h"

namespace xlstm::cuda {
namespace {

constexpr auto kThreads = static_cast<int>(kMaxCandidates);

struct ChoiceArgs {
  const int32_t* candidates;
  const int32_t* banned;
  uint64_t* draws;
  int32_t* ids;
  ChosenRow* chosen;
  double top_p;
  double log_min_p;
  double temperature;
  uint64_t seed;
  int32_t count;
  int32_t banned_count;
  int32_t top_k;
  int32_t unused;
};

struct Allowed {
  double scores[kThreads];  // greatest first
  int32_t ids[kThreads];
};

__device__ inline bool is_banned(const ChoiceArgs& args, int32_t id) {
  for (int i = 0; i < args.banned_count; ++i) {
    if (args.banned[i] == id) return true;
  }
  return false;
}

// The thread's candidate, if it is not banned, to its place among the `top_k` greatest that are not. How many there
// are.
__device__ inline int take_allowed(const ChoiceArgs& args, const int32_t* candidates, Allowed& allowed) {
  __shared__ bool takes_part[kThreads];
  const auto own = static_cast<int>(threadIdx.x);
  const int32_t id = own < args.count ? candidates[2 * own] : 0;
  int place = own;
  int all = args.count;
  bool is_allowed = own < args.count;
  if (args.banned_count > 0) {
    is_allowed = is_allowed && !is_banned(args, id);
    takes_part[own] = is_allowed;
    __syncthreads();
    place = 0;
    all = 0;
    for (int i = 0; i < args.count; ++i) {
      place += i < own && takes_part[i] ? 1 : 0;
      all += takes_part[i] ? 1 : 0;
    }
  }
  if (is_allowed && place < args.top_k) {
    allowed.scores[place] = static_cast<double>(__uint_as_float(static_cast<uint32_t>(candidates[2 * own + 1])));
    allowed.ids[place] = id;
  }
  __syncthreads();
  return all < args.top_k ? all : args.top_k;
}

// How many of the first `count` top_p and min_p leave. By one thread; weights: e^(score - best).
__device__ inline int keep_likely(const ChoiceArgs& args, const Allowed& allowed, const double* weights, int count) {
  int kept = count;
  if (args.top_p < 1) {
    double total = 0;
    for (int i = 0; i < count; ++i) total += weights[i];
    const double target = args.top_p * total;
    double sum = 0;
    kept = 0;
    while (kept < count) {
      sum += weights[kept++];
      if (sum >= target) break;
    }
  }
  const double lowest = allowed.scores[0] + args.log_min_p;
  while (kept > 1 && allowed.scores[kept - 1] < lowest) --kept;
  return kept;
}

// Where in the cumulative sum of the weights the share `uniform` of all falls. By one thread.
__device__ inline int place_of(double uniform, const double* weights, int count) {
  double total = 0;
  for (int i = 0; i < count; ++i) total += weights[i];
  const double target = uniform * total;
  double sum = 0;
  int last_possible = 0;
  for (int i = 0; i < count; ++i) {
    if (weights[i] == 0) continue;
    sum += weights[i];
    last_possible = i;
    if (sum > target) break;
  }
  return last_possible;
}

// Grid: [rows].
__global__ void __launch_bounds__(kThreads) choose(ChoiceArgs args) {
  __shared__ Allowed allowed;
  __shared__ double weights[kThreads];
  __shared__ int32_t ids[kThreads];  // of the weights
  __shared__ int kept;
  start_next();
  const auto own = static_cast<int>(threadIdx.x);
  const int64_t row = blockIdx.x;
  uint64_t* draw = args.draws + 2 * row;
  const uint64_t position = draw[1];  // of an earlier pass
  const double uniform = own == 0 ? philox_uniform(args.seed, draw[0], position) : 0;
  wait_for_previous();

  const int32_t* candidates = args.candidates + row * args.count * 2;
  const int count = take_allowed(args, candidates, allowed);
  const double best = allowed.scores[0];  // anything if there is none
  if (own < count) weights[own] = exponential(allowed.scores[own] - best);
  __syncthreads();
  if (own == 0) kept = keep_likely(args, allowed, weights, count);
  __syncthreads();
  if (own < kept) {
    int lower_ids = 0;
    for (int i = 0; i < kept; ++i) lower_ids += allowed.ids[i] < allowed.ids[own] ? 1 : 0;
    weights[lower_ids] = exponential((allowed.scores[own] - best) / args.temperature);
    ids[lower_ids] = allowed.ids[own];
  }
  __syncthreads();
  if (own != 0) return;

  const int32_t id = kept > 0 ? ids[place_of(uniform, weights, kept)] : 0;
  args.ids[row] = id;
  draw[1] = position + 1;
  ChosenRow& chosen = args.chosen[row];
  chosen.token.id = id;
  chosen.token.greatest_id = candidates[0];
  chosen.token.greatest = __uint_as_float(static_cast<uint32_t>(candidates[1]));
  chosen.token.best = count > 0 ? static_cast<float>(best) : -INFINITY;
  __threadfence_system();
  *static_cast<volatile uint64_t*>(&chosen.position) = position;
}

}  // namespace

void choose_tokens(Queue& queue, const Choice& args) {
  XLSTM_ASSERT(args.count >= 1 && args.count <= kMaxCandidates && args.top_k >= 1 && args.banned_count <= INT32_MAX);
  const ChoiceArgs own = {args.candidates,
                          args.banned,
                          args.draws,
                          args.ids,
                          args.chosen,
                          args.top_p,
                          args.log_min_p,
                          args.temperature,
                          args.seed,
                          static_cast<int32_t>(args.count),
                          static_cast<int32_t>(args.banned_count),
                          static_cast<int32_t>(args.top_k < args.count ? args.top_k : args.count),
                          0};
  run<choose>(queue, {.x = static_cast<unsigned>(args.rows), .threads = kThreads}, own);
}

}  // namespace xlstm::cuda
