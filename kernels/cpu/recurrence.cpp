#include "kernels/cpu/recurrence.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/isa.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/simd_targets.h"
//
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/recurrence.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
//
#include "kernels/cpu/gates-inl.h"

HWY_BEFORE_NAMESPACE();
namespace xlstm::cpu {
namespace HWY_NAMESPACE {

// How C is stored. Rounding in the instruction set itself is worth a function of its own: eight instructions for each
// vector are more than memory allows for. It turns subnormal numbers into 0.
template <class T>
struct PlainStore {
  using Element = T;
  static HWY_INLINE void store_vec(FloatVec value, T* to) { store(value, to); }
};
#if HWY_ARCH_X86 && HWY_TARGET == HWY_AVX3
struct RoundingStore {
  using Element = Bfloat16;
  static HWY_INLINE void store_vec(FloatVec value, Bfloat16* to) {
    __m256i bits;
    asm("vcvtneps2bf16 %1, %0" : "=v"(bits) : "v"(value.raw));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), bits);
  }
};
#else
using RoundingStore = PlainStore<Bfloat16>;
#endif

// The factors of some heads, one lane each.
struct HeadFactors {
  alignas(64) float forget[kLanes];  // fa
  alignas(64) float input[kLanes];   // ia
  alignas(64) float floor[kLanes];   // e^-m behind the token
};

// The gates of the heads [first, first + count), with m updated.
HWY_INLINE void run_gates(const StepArgs& args, int64_t first, int64_t count, HeadFactors& factors) {
  alignas(64) float lanes[kLanes] = {};
  float* const m = args.state.m + first * args.m_head;
  for (int64_t h = 0; h < count; ++h) lanes[h] = m[h * args.m_head];
  const FloatVec before = load(lanes);
  const FloatVec log_forget = log_forget_gate(load_some(args.rows.f_gate + first, count));
  const FloatVec input = input_gate(load_some(args.rows.i_gate + first, count));
  const FloatVec kept = hn::Add(log_forget, before);
  const FloatVec next = hn::Max(kept, input);
  store(hn::Exp(kFloat, hn::Sub(kept, next)), factors.forget);
  store(hn::Exp(kFloat, hn::Sub(input, next)), factors.input);
  store(exp_or_infinity(hn::Neg(next)), factors.floor);
  store(next, lanes);
  for (int64_t h = 0; h < count; ++h) m[h * args.m_head] = lanes[h];
}

// n = fa·n + ia·k; returns q·n.
template <class T>
HWY_INLINE float update_normalizer(float forget, float input, const float* q, const float* k, int64_t dk, T* n) {
  const FloatVec forget_vec = hn::Set(kFloat, forget);
  const FloatVec input_vec = hn::Set(kFloat, input);
  FloatVec sum = hn::Zero(kFloat);
  int64_t a = 0;
  for (; a + kLanes <= dk; a += kLanes) {
    const FloatVec next = hn::MulAdd(input_vec, load(k + a), hn::Mul(forget_vec, load(n + a)));
    store(next, n + a);
    sum = hn::MulAdd(load(q + a), next, sum);
  }
  if (const int64_t rest = dk - a; rest > 0) {
    const FloatVec next = hn::MulAdd(input_vec, load_part(k + a, rest), hn::Mul(forget_vec, load_part(n + a, rest)));
    store_part(next, n + a, rest);
    sum = hn::MulAdd(load_part(q + a, rest), next, sum);
  }
  return sum_of_lanes(sum);
}

template <class T>
struct Sweep {
  T* c = nullptr;  // [Dk, Dv]
  int64_t c_stride = 0;
  int64_t dk = 0;
  int64_t dv = 0;
  const float* q = nullptr;
  const float* k = nullptr;
  const float* v = nullptr;  // times ia, padded to whole vectors
  float forget = 0;
  float* numerator = nullptr;  // qᵀC behind the token, padded to whole vectors
};

// C = fa·C + k⊗v and the numerators, strictly in the order of memory: processors stream one sequence of addresses two
// to three times as fast as several rows beside each other. For Dv of kVecs vectors: the numerators stay in registers.
template <int kVecs, class Store>
HWY_INLINE void sweep_whole(const Sweep<typename Store::Element>& sweep) {
  const FloatVec forget = hn::Set(kFloat, sweep.forget);
  FloatVec sums[kVecs];
  for (int j = 0; j < kVecs; ++j) sums[j] = hn::Zero(kFloat);
  typename Store::Element* HWY_RESTRICT row = sweep.c;
  const float* HWY_RESTRICT v = sweep.v;
  for (int64_t a = 0; a < sweep.dk; ++a, row += sweep.c_stride) {
    const FloatVec q = hn::Set(kFloat, sweep.q[a]);
    const FloatVec k = hn::Set(kFloat, sweep.k[a]);
    for (int j = 0; j < kVecs; ++j) {
      const FloatVec next = hn::MulAdd(k, load(v + j * kLanes), hn::Mul(forget, load(row + j * kLanes)));
      Store::store_vec(next, row + j * kLanes);
      sums[j] = hn::MulAdd(q, next, sums[j]);
    }
  }
  for (int j = 0; j < kVecs; ++j) store(sums[j], sweep.numerator + j * kLanes);
}

// The same for any Dv.
template <class Store>
HWY_INLINE void sweep_any(const Sweep<typename Store::Element>& sweep) {
  const FloatVec forget = hn::Set(kFloat, sweep.forget);
  typename Store::Element* HWY_RESTRICT row = sweep.c;
  const float* HWY_RESTRICT v = sweep.v;
  float* HWY_RESTRICT numerator = sweep.numerator;
  const int64_t whole = sweep.dv / kLanes * kLanes;
  const int64_t rest = sweep.dv - whole;
  for (int64_t j = 0; j < sweep.dv; j += kLanes) store(hn::Zero(kFloat), numerator + j);
  for (int64_t a = 0; a < sweep.dk; ++a, row += sweep.c_stride) {
    const FloatVec q = hn::Set(kFloat, sweep.q[a]);
    const FloatVec k = hn::Set(kFloat, sweep.k[a]);
    for (int64_t j = 0; j < whole; j += kLanes) {
      const FloatVec next = hn::MulAdd(k, load(v + j), hn::Mul(forget, load(row + j)));
      Store::store_vec(next, row + j);
      store(hn::MulAdd(q, next, load(numerator + j)), numerator + j);
    }
    if (rest > 0) {
      const FloatVec next = hn::MulAdd(k, load(v + whole), hn::Mul(forget, load_part(row + whole, rest)));
      store_part(next, row + whole, rest);
      store(hn::MulAdd(q, next, load(numerator + whole)), numerator + whole);
    }
  }
}

template <class Store>
HWY_INLINE void run_sweep(const Sweep<typename Store::Element>& sweep) {
  switch (sweep.dv % kLanes == 0 ? sweep.dv / kLanes : 0) {
    case 2: return sweep_whole<2, Store>(sweep);
    case 4: return sweep_whole<4, Store>(sweep);
    case 8: return sweep_whole<8, Store>(sweep);
#if (HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3) || HWY_ARCH_ARM_A64
    case 16: return sweep_whole<16, Store>(sweep);
#endif
    default: return sweep_any<Store>(sweep);
  }
}

// to[0, count) = factor · from; with padding, whole vectors are written.
template <bool kPadded>
HWY_INLINE void scale(float factor, const float* from, int64_t count, float* to) {
  const FloatVec factor_vec = hn::Set(kFloat, factor);
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(hn::Mul(factor_vec, load(from + i)), to + i);
  const int64_t rest = count - i;
  if (rest == 0) return;
  const FloatVec last = hn::Mul(factor_vec, load_part(from + i, rest));
  if (kPadded) {
    store(last, to + i);
  } else {
    store_part(last, to + i, rest);
  }
}

template <class Store>
void run_heads(const StepArgs& args, Scratch& scratch) {
  using T = typename Store::Element;
  const int64_t dk = args.dims.dk;
  const int64_t dv = args.dims.dv;
  ScratchPlan plan(scratch.floats(2 * ScratchPlan::padded(dv)));
  float* const v = plan.take(dv);
  float* const numerator = plan.take(dv);
  const float q_scale = 1.0F / std::sqrt(static_cast<float>(dk));
  HeadFactors factors;
  for (int64_t head = 0; head < args.heads; ++head) {
    const int64_t lane = head % kLanes;
    if (lane == 0) run_gates(args, head, std::min(kLanes, args.heads - head), factors);
    const float* const q = args.rows.q + head * dk;
    const float* const k = args.rows.k + head * dk;
    const float input = factors.input[lane];
    scale<true>(input, args.rows.v + head * dv, dv, v);
    T* const n = static_cast<T*>(args.state.n) + head * args.n_head;
    const float dot = q_scale * update_normalizer(factors.forget[lane], input, q, k, dk, n);
    T* const c = static_cast<T*>(args.state.c) + head * args.c_head;
    run_sweep<Store>({c, args.state.c_stride, dk, dv, q, k, v, factors.forget[lane], numerator});
    const float denominator = std::max(std::abs(dot), factors.floor[lane]) + args.dims.eps;
    scale<false>(q_scale / denominator, numerator, dv, args.rows.h + head * dv);
  }
}

void run_step_with(const StepArgs& args, bool has_rounding_store, Scratch& scratch) {
  if (args.state.dtype == Dtype::kFloat32) return run_heads<PlainStore<float>>(args, scratch);
  if (has_rounding_store) return run_heads<RoundingStore>(args, scratch);
  run_heads<PlainStore<Bfloat16>>(args, scratch);
}

}  // namespace HWY_NAMESPACE
}  // namespace xlstm::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace xlstm::cpu {

HWY_EXPORT(run_step_with);

void run_step(const StepArgs& args) {
  thread_local Scratch scratch;
  HWY_DYNAMIC_DISPATCH(run_step_with)(args, uses_bfloat16_dot(), scratch);
}

}  // namespace xlstm::cpu
#endif
