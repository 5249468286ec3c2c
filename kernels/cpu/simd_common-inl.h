// Vector helpers shared by the SIMD files: conversions, partial vectors, reductions. Compiled once per target.

#if defined(XLSTM_KERNELS_CPU_SIMD_COMMON_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef XLSTM_KERNELS_CPU_SIMD_COMMON_INL_H
#undef XLSTM_KERNELS_CPU_SIMD_COMMON_INL_H
#else
#define XLSTM_KERNELS_CPU_SIMD_COMMON_INL_H
#endif

#include <cstdint>
#include <cstring>

#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"
#include "kernels/cpu/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace xlstm::cpu {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::ScalableTag<float>;
using FloatVec = hn::Vec<FloatTag>;
constexpr FloatTag kFloat{};
constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(FloatTag()));

HWY_INLINE FloatVec load(const float* from) {
  return hn::LoadU(kFloat, from);
}

HWY_INLINE FloatVec load(const Bfloat16* from) {
  const hn::Rebind<uint16_t, FloatTag> narrow;
  const hn::Rebind<uint32_t, FloatTag> wide;
  return hn::BitCast(kFloat, hn::ShiftLeft<16>(hn::PromoteTo(wide, hn::LoadU(narrow, &from->bits))));
}

HWY_INLINE FloatVec load(const Float16* from) {
#if (HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2) || HWY_ARCH_ARM_A64
  const hn::Rebind<hwy::float16_t, FloatTag> narrow;
  return hn::PromoteTo(kFloat, hn::LoadU(narrow, reinterpret_cast<const hwy::float16_t*>(&from->bits)));
#else
  // Exponent and mantissa moved to their float32 places are the value times 2^-112, subnormals included; infinity and
  // NaN come out at or above 2^16 and get the float32 exponent of all ones.
  const hn::Rebind<uint16_t, FloatTag> narrow;
  const hn::Rebind<uint32_t, FloatTag> wide;
  const auto bits = hn::PromoteTo(wide, hn::LoadU(narrow, &from->bits));
  const auto magnitude = hn::ShiftLeft<13>(hn::And(bits, hn::Set(wide, 0x7FFFU)));
  const FloatVec value = hn::Mul(hn::BitCast(kFloat, magnitude), hn::Set(kFloat, 0x1p112F));
  const FloatVec special = hn::Or(value, hn::BitCast(kFloat, hn::Set(wide, 0x7F800000U)));
  const FloatVec finite_or_not = hn::IfThenElse(hn::Ge(value, hn::Set(kFloat, 65536.0F)), special, value);
  const auto sign = hn::ShiftLeft<16>(hn::And(bits, hn::Set(wide, 0x8000U)));
  return hn::Or(finite_or_not, hn::BitCast(kFloat, sign));
#endif
}

HWY_INLINE void store(FloatVec value, float* to) {
  hn::StoreU(value, kFloat, to);
}

// Rounds to nearest, ties to even; NaN stays NaN.
HWY_INLINE void store(FloatVec value, Bfloat16* to) {
  const hn::Rebind<uint16_t, FloatTag> narrow;
  const hn::Rebind<int32_t, FloatTag> signed_wide;
  const hn::Rebind<uint32_t, FloatTag> wide;
  const auto bits = hn::BitCast(wide, value);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(wide, 1U));
  const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(wide, 0x7FFFU))));
  const auto quiet_nan = hn::Or(hn::ShiftRight<16>(bits), hn::Set(wide, 0x40U));
  const auto result = hn::IfThenElse(hn::RebindMask(wide, hn::IsNaN(value)), quiet_nan, rounded);
  hn::StoreU(hn::DemoteTo(narrow, hn::BitCast(signed_wide, result)), narrow, &to->bits);
}

// The first `count` < kLanes elements, zeros behind; reads no further.
template <class T>
HWY_INLINE FloatVec load_part(const T* from, int64_t count) {
  T padded[kLanes] = {};
  std::memcpy(padded, from, static_cast<size_t>(count) * sizeof(T));
  return load(padded);
}

template <class T>
HWY_INLINE void store_part(FloatVec value, T* to, int64_t count) {
  T padded[kLanes];
  store(value, padded);
  std::memcpy(to, padded, static_cast<size_t>(count) * sizeof(T));
}

// The first `count` elements, a whole vector if there are as many or more.
template <class T>
HWY_INLINE FloatVec load_some(const T* from, int64_t count) {
  return count >= kLanes ? load(from) : load_part(from, count);
}

template <class T>
HWY_INLINE void store_some(FloatVec value, T* to, int64_t count) {
  if (count >= kLanes) return store(value, to);
  store_part(value, to, count);
}

HWY_INLINE float sum_of_lanes(FloatVec value) {
  return hn::GetLane(hn::SumOfLanes(kFloat, value));
}

// 1 / (1 + e^-x) without overflow: with e = e^-|x| it is 1 / (1 + e) or e / (1 + e).
HWY_INLINE FloatVec sigmoid(FloatVec x) {
  const FloatVec one = hn::Set(kFloat, 1.0F);
  const FloatVec e = hn::Exp(kFloat, hn::Neg(hn::Abs(x)));
  return hn::Div(hn::IfThenElse(hn::Ge(x, hn::Zero(kFloat)), one, e), hn::Add(one, e));
}

}  // namespace HWY_NAMESPACE
}  // namespace xlstm::cpu
HWY_AFTER_NAMESPACE();

#endif
