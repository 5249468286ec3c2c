// The scalar part of a chunk tile: stabilisers, decays and weights of its tokens. Compiled once per target.

#if defined(XLSTM_KERNELS_CPU_CHUNK_GATES_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef XLSTM_KERNELS_CPU_CHUNK_GATES_INL_H
#undef XLSTM_KERNELS_CPU_CHUNK_GATES_INL_H
#else
#define XLSTM_KERNELS_CPU_CHUNK_GATES_INL_H
#endif

#include <algorithm>

#include "kernels/cpu/gates-inl.h"
#include "kernels/cpu/head_rows.h"
#include "kernels/cpu/scratch.h"

HWY_BEFORE_NAMESPACE();
namespace xlstm::cpu {
namespace HWY_NAMESPACE {

// Arrays over the tokens of a tile, padded to whole vectors.
struct ChunkGates {
  static constexpr int64_t kArrays = 9;

  ChunkGates(int64_t tokens, ScratchPlan& plan)
      : input(plan.take(tokens)),
        m(plan.take(tokens)),
        decay_high(plan.take(tokens)),
        decay_low(plan.take(tokens)),
        inter(plan.take(tokens)),
        inter_low(plan.take(tokens)),
        key_weight(plan.take(tokens)),
        key_weight_low(plan.take(tokens)),
        floor(plan.take(tokens)) {}

  float* input;                   // i_t
  float* m;                       // the recurrence's stabiliser
  float *decay_high, *decay_low;  // sum of the two: b_t, the log of all forget gates up to t
  float *inter, *inter_low;       // share of the state before the tile in token t; while it is formed, its log
  float* key_weight;              // weight of token t in the state behind the tile; while it is formed, its log
  float* key_weight_low;
  float* floor;  // e^-m_t; while m is formed, the log of the forget gate
};

HWY_INLINE double difference(float a, float b) {
  return static_cast<double>(a) - static_cast<double>(b);
}

// x ≈ high + low with twice the digits of a float.
HWY_INLINE void split(double x, float& high, float& low) {
  high = static_cast<float>(x);
  low = static_cast<float>(x - static_cast<double>(high));
}

// e^(high + low)
HWY_INLINE void store_exp_of_sum(const float* low, float* high) {
  const FloatVec e = hn::Exp(kFloat, load(high));
  store(hn::MulAdd(e, load(low), e), high);
}

// Fills `gates`. Returns the factor on the state before the tile.
//
// Sums of log forget gates are kept in double, and b as a pair of floats: b_t - b_s of neighbours far into a tile must
// not lose the digits that |b| takes. Weights into the state are summed from the end of the tile, without differences.
HWY_INLINE float run_chunk_gates(const HeadRows& rows, float m_before, const ChunkGates& gates) {
  const int64_t tokens = rows.rows;
  const int64_t padded = ScratchPlan::padded(tokens);
  float* const log_forget = gates.floor;
  for (int64_t t = 0; t < tokens; ++t) {
    log_forget[t] = rows.f_gate[t * rows.gate_stride];
    gates.input[t] = rows.i_gate[t * rows.gate_stride];
  }
  for (float* array : {log_forget, gates.input, gates.m, gates.inter, gates.inter_low, gates.key_weight,
                       gates.key_weight_low, gates.decay_high, gates.decay_low}) {
    std::fill(array + tokens, array + padded, 0.0F);
  }
  for (int64_t t = 0; t < padded; t += kLanes) {
    store(log_forget_gate(load(log_forget + t)), log_forget + t);
    store(input_gate(load(gates.input + t)), gates.input + t);
  }

  float m = m_before;
  double decay = 0;
  for (int64_t t = 0; t < tokens; ++t) {
    m = std::max(log_forget[t] + m, gates.input[t]);
    gates.m[t] = m;
    decay += static_cast<double>(log_forget[t]);
    split(decay, gates.decay_high[t], gates.decay_low[t]);
    split(std::min(0.0, decay + difference(m_before, m)), gates.inter[t], gates.inter_low[t]);
  }
  double to_end = 0;
  for (int64_t t = tokens - 1; t >= 0; --t) {
    split(std::min(0.0, to_end + difference(gates.input[t], m)), gates.key_weight[t], gates.key_weight_low[t]);
    to_end += static_cast<double>(log_forget[t]);
  }
  for (int64_t t = 0; t < padded; t += kLanes) {
    store_exp_of_sum(gates.inter_low + t, gates.inter + t);
    store_exp_of_sum(gates.key_weight_low + t, gates.key_weight + t);
    store(exp_or_infinity(hn::Neg(load(gates.m + t))), gates.floor + t);
  }
  return gates.inter[tokens - 1];
}

}  // namespace HWY_NAMESPACE
}  // namespace xlstm::cpu
HWY_AFTER_NAMESPACE();

#endif
