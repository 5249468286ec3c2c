#include "kernels/cpu/panel_finish.h"

#include "kernels/cpu/panel_layout.h"
#include "kernels/cpu/simd_targets.h"
//
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/panel_finish.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
//
#include "kernels/cpu/simd_common-inl.h"

HWY_BEFORE_NAMESPACE();
namespace xlstm::cpu {
namespace HWY_NAMESPACE {

// value(i, count, y) for the vectors of a row; `sums` has room for whole vectors, y and bias end after `columns`.
template <class Value>
HWY_INLINE void finish_row(const PanelTarget& target, float* y, const Value& value) {
  int64_t i = 0;
  for (; i + kLanes <= target.columns; i += kLanes) store(value(i, kLanes, y), y + i);
  if (const int64_t rest = target.columns - i; rest > 0) store_part(value(i, rest, y), y + i, rest);
}

HWY_INLINE FloatVec add_bias(FloatVec sum, const float* bias, int64_t i, int64_t count) {
  return bias == nullptr ? sum : hn::Add(sum, load_some(bias + i, count));
}

void run_finish_plain(const PanelTarget& target, const PlainFinish& finish, const float* sums) {
  const FloatVec cap = hn::Set(kFloat, finish.soft_cap);
  for (int64_t r = 0; r < target.rows; ++r) {
    const float* row = sums + r * kPanelWidth;
    finish_row(target, target.y + r * target.y_stride, [&](int64_t i, int64_t count, const float* y) HWY_ATTR {
      FloatVec value = add_bias(load(row + i), target.bias, i, count);
      if (finish.soft_cap > 0) value = hn::Mul(cap, hn::Tanh(kFloat, hn::Div(value, cap)));
      return finish.accumulate ? hn::Add(load_some(y + i, count), value) : value;
    });
  }
}

void run_finish_gate_up(const PanelTarget& target, const float* up_bias, const float* gate, const float* up) {
  for (int64_t r = 0; r < target.rows; ++r) {
    const int64_t row = r * kPanelWidth;
    finish_row(target, target.y + r * target.y_stride, [&](int64_t i, int64_t count, const float*) HWY_ATTR {
      const FloatVec g = add_bias(load(gate + row + i), target.bias, i, count);
      return hn::Mul(hn::Mul(g, sigmoid(g)), add_bias(load(up + row + i), up_bias, i, count));
    });
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace xlstm::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace xlstm::cpu {

HWY_EXPORT(run_finish_plain);
HWY_EXPORT(run_finish_gate_up);

void finish_plain(const PanelTarget& target, const PlainFinish& finish, const float* sums) {
  HWY_DYNAMIC_DISPATCH(run_finish_plain)(target, finish, sums);
}

void finish_gate_up(const PanelTarget& target, const float* up_bias, const float* gate, const float* up) {
  HWY_DYNAMIC_DISPATCH(run_finish_gate_up)(target, up_bias, gate, up);
}

}  // namespace xlstm::cpu
#endif
