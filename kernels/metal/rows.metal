// Operations on rows of activations. All of them together move a few kilobytes a token: what counts is that each is one
// short command, so a threadgroup takes a row (or a head of it), and no value is read by more than one thread.
#include "kernels/metal/msl.h"
#include "kernels/metal/rows_args.h"

using namespace xlstm::shader;

namespace {

inline float widen(float value) {
  return value;
}
inline float widen(half value) {
  return float(value);
}
// The bits of a bfloat16.
inline float widen(ushort value) {
  return as_type<float>(uint(value) << 16);
}

// The sum of the threadgroup's values, in every thread. `partial`: [kRowSimds], used by no other sum.
inline float group_sum(float value, threadgroup float* partial, uint simd, uint lane) {
  const float sum = simd_sum(value);
  if (lane == 0) partial[simd] = sum;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float total = 0;
  for (int i = 0; i < kRowSimds; ++i) total += partial[i];
  return total;
}

}  // namespace

// x[first_row + y] = table[ids[y]], widened. Grid: [width / kRowThreads up, rows].
template <typename T>
[[kernel]] void embed(constant EmbedArgs& args [[buffer(0)]], device const T* table [[buffer(1)]],
                      device float* x [[buffer(2)]], XLSTM_THREAD) {
  const int column = int(group.x * kRowThreads + simd * 32 + lane);
  if (column >= args.width) return;
  const size_t from = size_t(args.ids[group.y]) * size_t(args.width);
  const size_t to = (size_t(args.first_row) + group.y) * size_t(args.width);
  x[to + column] = widen(table[from + column]);
}

XLSTM_KERNEL_TEMPLATE("embed_float32", embed, float);
XLSTM_KERNEL_TEMPLATE("embed_float16", embed, half);
XLSTM_KERNEL_TEMPLATE("embed_bfloat16", embed, ushort);

// y = x / √(mean(x²) + eps) ⊙ weight + bias for rows of `width` values. Grid: [rows]. Rows may be replaced where they
// are: a thread reads each of its values for the last time just before it writes it.
[[kernel]] void rms_norm(constant RmsNormArgs& args [[buffer(0)]], device const float* x [[buffer(1)]],
                         device const float* weight [[buffer(2)]], device const float* bias [[buffer(3)]],
                         device float* y [[buffer(4)]], XLSTM_THREAD) {
  XLSTM_SHARED(float, partial, kRowSimds);
  device const float* from = x + (size_t(args.first_row) + group.x) * size_t(args.width);
  device float* to = y + size_t(group.x) * size_t(args.width);
  const int thread_index = int(simd * 32 + lane);
  float squares = 0;
  for (int i = thread_index; i < args.width; i += kRowThreads) squares = fma(from[i], from[i], squares);
  const float scale = rsqrt(group_sum(squares, partial, simd, lane) / float(args.width) + args.eps);
  for (int i = thread_index; i < args.width; i += kRowThreads) {
    const float value = from[i] * scale * weight[i];
    to[i] = args.has_bias ? value + bias[i] : value;
  }
}

XLSTM_KERNEL("rms_norm", rms_norm);

// y = ((h - mean) / √(variance + eps) ⊙ weight + bias) · σ(o) for every head of every row. Grid: [heads, rows]. The
// mean is taken off before the squares are summed: where a head's values lie close together nothing cancels.
[[kernel]] void gated_head_norm(constant HeadNormArgs& args [[buffer(0)]], device const float* h [[buffer(1)]],
                                device const float* o [[buffer(2)]], device const float* weight [[buffer(3)]],
                                device const float* bias [[buffer(4)]], device float* y [[buffer(5)]], XLSTM_THREAD) {
  XLSTM_SHARED(float, partial, 2 * kRowSimds);
  const int first = int(group.x) * args.head_dim;  // this head's features
  device const float* values = h + size_t(group.y) * size_t(args.h_stride) + first;
  device const float* gates = o + size_t(group.y) * size_t(args.o_stride) + first;
  device float* out = y + size_t(group.y) * size_t(args.y_stride) + first;
  const int thread_index = int(simd * 32 + lane);

  float sum = 0;
  for (int i = thread_index; i < args.head_dim; i += kRowThreads) sum += values[i];
  const float mean = group_sum(sum, partial, simd, lane) / float(args.head_dim);
  float squares = 0;
  for (int i = thread_index; i < args.head_dim; i += kRowThreads) {
    const float centred = values[i] - mean;
    squares = fma(centred, centred, squares);
  }
  const float variance = group_sum(squares, partial + kRowSimds, simd, lane) / float(args.head_dim);
  const float scale = rsqrt(variance + args.eps);
  for (int i = thread_index; i < args.head_dim; i += kRowThreads) {
    const float normed = (values[i] - mean) * scale * weight[first + i];
    const float shifted = args.has_bias ? normed + bias[first + i] : normed;
    out[i] = shifted / (1 + exp(-gates[i]));
  }
}

XLSTM_KERNEL("gated_head_norm", gated_head_norm);
