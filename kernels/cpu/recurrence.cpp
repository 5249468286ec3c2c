#include "kernels/cpu/recurrence.h"

#include "kernels/cpu/scratch.h"
#include "kernels/cpu/simd_targets.h"
//
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/recurrence.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
//
#include "kernels/cpu/simd_common-inl.h"

HWY_BEFORE_NAMESPACE();
namespace xlstm::cpu {
namespace HWY_NAMESPACE {

// Columns of C that are kept hot while the tokens of a span go by.
constexpr int64_t kHotColumns = 64;

// What one token does to every column.
struct TokenFactors {
  float forget = 0;               // fa
  float input = 0;                // ia
  float inverse_denominator = 0;  // 1 / (max(|q·n|, e^-m) + eps)
};

template <class T>
HWY_INLINE void widen(const T* from, int64_t count, float* to) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(load(from + i), to + i);
  if (i < count) store_part(load_part(from + i, count - i), to + i, count - i);
}

template <class T>
HWY_INLINE void narrow(const float* from, int64_t count, T* to) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(load(from + i), to + i);
  if (i < count) store_part(load_part(from + i, count - i), to + i, count - i);
}

HWY_INLINE void scale(const float* from, float factor, int64_t count, float* to) {
  const FloatVec factor_vec = hn::Set(kFloat, factor);
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(hn::Mul(load(from + i), factor_vec), to + i);
  if (i < count) store_part(hn::Mul(load_part(from + i, count - i), factor_vec), to + i, count - i);
}

// n = fa·n + ia·k; returns q·n.
HWY_INLINE float update_normalizer(const TokenFactors& token, const float* q, const float* k, int64_t dk, float* n) {
  const FloatVec forget = hn::Set(kFloat, token.forget);
  const FloatVec input = hn::Set(kFloat, token.input);
  FloatVec acc = hn::Zero(kFloat);
  int64_t a = 0;
  for (; a + kLanes <= dk; a += kLanes) {
    const FloatVec next = hn::MulAdd(input, load(k + a), hn::Mul(forget, load(n + a)));
    store(next, n + a);
    acc = hn::MulAdd(load(q + a), next, acc);
  }
  if (const int64_t rest = dk - a; rest > 0) {
    const FloatVec next = hn::MulAdd(input, load_part(k + a, rest), hn::Mul(forget, load_part(n + a, rest)));
    store_part(next, n + a, rest);
    acc = hn::MulAdd(load_part(q + a, rest), next, acc);
  }
  return sum_of_lanes(acc);
}

// The gates of all tokens in order: their factors, and n and m behind the last.
void run_gates(const RecurrenceArgs& args, TokenFactors* tokens) {
  const HeadRows& rows = args.rows;
  const float q_scale = 1.0F / std::sqrt(static_cast<float>(args.dims.dk));
  float m = *args.state.m;
  for (int64_t t = 0; t < rows.rows; ++t) {
    const float log_forget = log_forget_gate(rows.f_gate[t * rows.gate_stride]);
    const float i = input_gate(rows.i_gate[t * rows.gate_stride]);
    const float m_next = std::max(log_forget + m, i);
    TokenFactors& token = tokens[t];
    token.forget = std::exp(log_forget + m - m_next);
    token.input = std::exp(i - m_next);
    const float dot =
        update_normalizer(token, rows.q + t * rows.q_stride, rows.k + t * rows.k_stride, args.dims.dk, args.n_next);
    token.inverse_denominator = 1.0F / (std::max(std::abs(q_scale * dot), std::exp(-m_next)) + args.dims.eps);
    m = m_next;
  }
  *args.m_next = m;
}

template <class T>
struct ColumnStep {
  T* c = nullptr;  // [Dk, cols]
  int64_t c_stride = 0;
  int64_t cols = 0;
  const float* q = nullptr;  // scaled
  const float* k = nullptr;  // times the input factor
  const float* v = nullptr;  // padded to whole vectors
  float forget = 0;
  float* numerator = nullptr;  // padded to whole vectors
};

// kRows rows of C: C = fa·C + k⊗v and numerator += q·C in one sweep.
template <int kRows, class T>
HWY_INLINE void step_rows(const ColumnStep<T>& step, int64_t row) {
  const FloatVec forget = hn::Set(kFloat, step.forget);
  FloatVec q[kRows];
  FloatVec k[kRows];
  for (int r = 0; r < kRows; ++r) {
    q[r] = hn::Set(kFloat, step.q[row + r]);
    k[r] = hn::Set(kFloat, step.k[row + r]);
  }
  T* HWY_RESTRICT c = step.c + row * step.c_stride;
  const float* HWY_RESTRICT v = step.v;
  float* HWY_RESTRICT numerator = step.numerator;
  int64_t j = 0;
  for (; j + kLanes <= step.cols; j += kLanes) {
    const FloatVec vv = load(v + j);
    FloatVec sum = load(numerator + j);
    for (int r = 0; r < kRows; ++r) {
      T* at = c + r * step.c_stride + j;
      const FloatVec next = hn::MulAdd(k[r], vv, hn::Mul(forget, load(at)));
      store(next, at);
      sum = hn::MulAdd(q[r], next, sum);
    }
    store(sum, numerator + j);
  }
  if (const int64_t rest = step.cols - j; rest > 0) {
    const FloatVec vv = load(v + j);
    FloatVec sum = load(numerator + j);
    for (int r = 0; r < kRows; ++r) {
      T* at = c + r * step.c_stride + j;
      const FloatVec next = hn::MulAdd(k[r], vv, hn::Mul(forget, load_part(at, rest)));
      store_part(next, at, rest);
      sum = hn::MulAdd(q[r], next, sum);
    }
    store(sum, numerator + j);
  }
}

template <class T>
HWY_INLINE void step_columns(const ColumnStep<T>& step, int64_t dk) {
  for (int64_t j = 0; j < step.cols; j += kLanes) store(hn::Zero(kFloat), step.numerator + j);
  int64_t row = 0;
  for (; row + 4 <= dk; row += 4) step_rows<4>(step, row);
  for (; row < dk; ++row) step_rows<1>(step, row);
}

struct Pieces {
  float* q;
  float* k;
  float* v;
  float* numerator;
};

// One token on columns [col, col + cols).
template <class T>
HWY_INLINE void run_token(const RecurrenceArgs& args, const TokenFactors& token, int64_t t, int64_t col,
                          ColumnStep<T>& step, const Pieces& pieces) {
  const HeadRows& rows = args.rows;
  const int64_t dk = args.dims.dk;
  scale(rows.q + t * rows.q_stride, 1.0F / std::sqrt(static_cast<float>(dk)), dk, pieces.q);
  scale(rows.k + t * rows.k_stride, token.input, dk, pieces.k);
  const float* v = rows.v + t * rows.v_stride + col;
  int64_t j = 0;
  for (; j + kLanes <= step.cols; j += kLanes) store(load(v + j), pieces.v + j);
  if (j < step.cols) store(load_part(v + j, step.cols - j), pieces.v + j);
  step.q = pieces.q;
  step.k = pieces.k;
  step.v = pieces.v;
  step.forget = token.forget;
  step.numerator = pieces.numerator;
  step_columns(step, dk);
  scale(pieces.numerator, token.inverse_denominator, step.cols, rows.h + t * rows.h_stride + col);
}

template <class T>
void run_columns(const RecurrenceArgs& args, const TokenFactors* tokens, const Pieces& pieces, float* hot) {
  T* c = static_cast<T*>(args.state.c);
  const int64_t stride = args.state.c_stride;
  if (args.rows.rows == 1) {
    ColumnStep<T> step;
    step.c = c + args.col_begin;
    step.c_stride = stride;
    step.cols = args.col_end - args.col_begin;
    run_token(args, tokens[0], 0, args.col_begin, step, pieces);
    return;
  }
  for (int64_t col = args.col_begin; col < args.col_end; col += kHotColumns) {
    ColumnStep<float> step;
    step.c = hot;
    step.c_stride = kHotColumns;
    step.cols = std::min(kHotColumns, args.col_end - col);
    for (int64_t a = 0; a < args.dims.dk; ++a) widen(c + a * stride + col, step.cols, hot + a * kHotColumns);
    for (int64_t t = 0; t < args.rows.rows; ++t) run_token(args, tokens[t], t, col, step, pieces);
    for (int64_t a = 0; a < args.dims.dk; ++a) narrow(hot + a * kHotColumns, step.cols, c + a * stride + col);
  }
}

void run_recurrence_part(const RecurrenceArgs& args, Scratch& scratch) {
  const int64_t dk = args.dims.dk;
  const int64_t rows = args.rows.rows;
  const int64_t cols = args.col_end - args.col_begin;
  if (rows == 0) return;
  constexpr auto kFactorFloats = static_cast<int64_t>(sizeof(TokenFactors) / sizeof(float));
  const int64_t hot = rows == 1 ? 0 : dk * kHotColumns;
  ScratchPlan plan(scratch.floats(2 * ScratchPlan::padded(dk) + 2 * ScratchPlan::padded(cols) +
                                  ScratchPlan::padded(rows * kFactorFloats) + hot));
  const Pieces pieces{plan.take(dk), plan.take(dk), plan.take(cols), plan.take(cols)};
  auto* tokens = reinterpret_cast<TokenFactors*>(plan.take(rows * kFactorFloats));
  const bool float_state = args.state.dtype == Dtype::kFloat32;
  if (float_state) {
    widen(static_cast<const float*>(args.state.n), dk, args.n_next);
  } else {
    widen(static_cast<const Bfloat16*>(args.state.n), dk, args.n_next);
  }
  run_gates(args, tokens);
  if (float_state) {
    run_columns<float>(args, tokens, pieces, plan.take(hot));
  } else {
    run_columns<Bfloat16>(args, tokens, pieces, plan.take(hot));
  }
}

void run_store_normalizer(const HeadState& state, const float* n, float m, int64_t dk) {
  if (state.dtype == Dtype::kFloat32) {
    narrow(n, dk, static_cast<float*>(state.n));
  } else {
    narrow(n, dk, static_cast<Bfloat16*>(state.n));
  }
  *state.m = m;
}

}  // namespace HWY_NAMESPACE
}  // namespace xlstm::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace xlstm::cpu {

HWY_EXPORT(run_recurrence_part);
HWY_EXPORT(run_store_normalizer);

void run_recurrence(const RecurrenceArgs& args) {
  thread_local Scratch scratch;
  HWY_DYNAMIC_DISPATCH(run_recurrence_part)(args, scratch);
}

void store_normalizer(const HeadState& state, const float* n, float m, int64_t dk) {
  HWY_DYNAMIC_DISPATCH(run_store_normalizer)(state, n, m, dk);
}

}  // namespace xlstm::cpu
#endif
