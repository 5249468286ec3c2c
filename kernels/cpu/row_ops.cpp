#include "kernels/cpu/row_ops.h"

#include <cmath>

#include "kernels/cpu/simd_targets.h"
//
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/row_ops.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
//
#include "kernels/cpu/simd_common-inl.h"

HWY_BEFORE_NAMESPACE();
namespace xlstm::cpu {
namespace HWY_NAMESPACE {

// Σ (x - shift)²; the zeros behind a partial vector stay out of the sum.
HWY_INLINE float sum_of_squares(const float* HWY_RESTRICT x, int64_t count, float shift) {
  const FloatVec shift_vec = hn::Set(kFloat, shift);
  FloatVec acc0 = hn::Zero(kFloat);
  FloatVec acc1 = hn::Zero(kFloat);
  int64_t i = 0;
  for (; i + 2 * kLanes <= count; i += 2 * kLanes) {
    const FloatVec a = hn::Sub(load(x + i), shift_vec);
    const FloatVec b = hn::Sub(load(x + i + kLanes), shift_vec);
    acc0 = hn::MulAdd(a, a, acc0);
    acc1 = hn::MulAdd(b, b, acc1);
  }
  float total = sum_of_lanes(hn::Add(acc0, acc1));
  for (; i < count; ++i) total += (x[i] - shift) * (x[i] - shift);
  return total;
}

HWY_INLINE float sum(const float* HWY_RESTRICT x, int64_t count) {
  FloatVec acc = hn::Zero(kFloat);
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) acc = hn::Add(acc, load(x + i));
  float total = sum_of_lanes(acc);
  for (; i < count; ++i) total += x[i];
  return total;
}

// One vector at a time with the last one partial: calls Op::run on full and padded vectors alike.
template <class Op>
HWY_INLINE void for_each_vector(const Op& op, int64_t count) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) op.run(i, kLanes);
  if (i < count) op.run(i, count - i);
}

struct ScaleRow {
  const RmsNormArgs& args;
  FloatVec scale;
  HWY_INLINE void run(int64_t i, int64_t count) const {
    const FloatVec normed = hn::Mul(load_some(args.x + i, count), scale);
    FloatVec value = hn::Mul(normed, load_some(args.weight + i, count));
    if (args.bias != nullptr) value = hn::Add(value, load_some(args.bias + i, count));
    store_some(value, args.out + i, count);
  }
};

void run_rms_norm(const RmsNormArgs& args) {
  const float mean = sum_of_squares(args.x, args.count, 0.0F) / static_cast<float>(args.count);
  for_each_vector(ScaleRow{args, hn::Set(kFloat, 1.0F / std::sqrt(mean + args.eps))}, args.count);
}

struct GateHead {
  const GatedHeadNormArgs& args;
  int64_t offset;
  FloatVec mean;
  FloatVec scale;
  HWY_INLINE void run(int64_t i, int64_t count) const {
    const int64_t at = offset + i;
    const FloatVec normed = hn::Mul(hn::Sub(load_some(args.h + at, count), mean), scale);
    FloatVec value = hn::Mul(normed, load_some(args.weight + at, count));
    if (args.bias != nullptr) value = hn::Add(value, load_some(args.bias + at, count));
    store_some(hn::Mul(value, sigmoid(load_some(args.gate + at, count))), args.out + at, count);
  }
};

void run_gated_head_norm(const GatedHeadNormArgs& args) {
  const auto size = static_cast<float>(args.head_dim);
  for (int64_t head = 0; head < args.heads; ++head) {
    const int64_t offset = head * args.head_dim;
    const float mean = sum(args.h + offset, args.head_dim) / size;
    const float variance = sum_of_squares(args.h + offset, args.head_dim, mean) / size;
    const float scale = 1.0F / std::sqrt(variance + args.eps);
    for_each_vector(GateHead{args, offset, hn::Set(kFloat, mean), hn::Set(kFloat, scale)}, args.head_dim);
  }
}

template <class T>
struct Widen {
  const T* from;
  float* to;
  HWY_INLINE void run(int64_t i, int64_t count) const { store_some(load_some(from + i, count), to + i, count); }
};

void run_to_float32(const void* from, Dtype dtype, int64_t count, float* to) {
  switch (dtype) {
    case Dtype::kFloat32: return for_each_vector(Widen<float>{static_cast<const float*>(from), to}, count);
    case Dtype::kBfloat16: return for_each_vector(Widen<Bfloat16>{static_cast<const Bfloat16*>(from), to}, count);
    case Dtype::kFloat16: return for_each_vector(Widen<Float16>{static_cast<const Float16*>(from), to}, count);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace xlstm::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace xlstm::cpu {

HWY_EXPORT(run_rms_norm);
HWY_EXPORT(run_gated_head_norm);
HWY_EXPORT(run_to_float32);

void rms_norm(const RmsNormArgs& args) {
  HWY_DYNAMIC_DISPATCH(run_rms_norm)(args);
}

void gated_head_norm(const GatedHeadNormArgs& args) {
  HWY_DYNAMIC_DISPATCH(run_gated_head_norm)(args);
}

void to_float32(const void* from, Dtype dtype, int64_t count, float* to) {
  HWY_DYNAMIC_DISPATCH(run_to_float32)(from, dtype, count, to);
}

}  // namespace xlstm::cpu
#endif
