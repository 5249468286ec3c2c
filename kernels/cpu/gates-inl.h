// The gates' functions on vectors. Compiled once per target.

#if defined(XLSTM_KERNELS_CPU_GATES_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef XLSTM_KERNELS_CPU_GATES_INL_H
#undef XLSTM_KERNELS_CPU_GATES_INL_H
#else
#define XLSTM_KERNELS_CPU_GATES_INL_H
#endif

#include <limits>

#include "kernels/cpu/simd_common-inl.h"

HWY_BEFORE_NAMESPACE();
namespace xlstm::cpu {
namespace HWY_NAMESPACE {

// Gates below this act as "never": exponentials of it are 0, and sums over a tile of it stay finite, so that no
// difference of infinities can make a NaN.
constexpr float kLowestGate = -1e30F;

HWY_INLINE FloatVec input_gate(FloatVec i) {
  const FloatVec lowest = hn::Set(kFloat, kLowestGate);
  return hn::IfThenElse(hn::Lt(i, lowest), lowest, i);
}

// log σ(f)
HWY_INLINE FloatVec log_forget_gate(FloatVec f) {
  const FloatVec shut = hn::IfThenElse(hn::Lt(f, hn::Zero(kFloat)), f, hn::Zero(kFloat));
  return input_gate(hn::Sub(shut, hn::Log1p(kFloat, hn::Exp(kFloat, hn::Neg(hn::Abs(f))))));
}

// e^x, infinity where that overflows.
HWY_INLINE FloatVec exp_or_infinity(FloatVec x) {
  const FloatVec highest = hn::Set(kFloat, 88.7F);
  const FloatVec infinity = hn::Set(kFloat, std::numeric_limits<float>::infinity());
  return hn::IfThenElse(hn::Gt(x, highest), infinity, hn::Exp(kFloat, hn::Min(x, highest)));
}

}  // namespace HWY_NAMESPACE
}  // namespace xlstm::cpu
HWY_AFTER_NAMESPACE();

#endif
