// The mLSTM cell token by token: C, n and m are read once and written once per call, in registers in between. A step
// is a call of one token.
#include "kernels/metal/msl.h"
#include "kernels/metal/cell_args.h"
#include "kernels/metal/cell_common.h"

using namespace xlstm::shader;

// The scalars of a head, and n. One simdgroup per head and span; n goes by in segments that it can hold, for each of
// which the gates are computed anew.
template <typename State>
[[kernel]] void cell_recurrent_gates(constant CellArgs& args [[buffer(0)]], device const float* q [[buffer(1)]],
                                     device const float* k [[buffer(2)]], device const float* gates [[buffer(3)]],
                                     device State* n [[buffer(4)]], device float* m [[buffer(5)]],
                                     device float* scratch [[buffer(6)]], XLSTM_THREAD) {
  enum : int { kHeld = 8 };  // elements of n per lane
  constant CellSpan& span = args.spans[group.z];
  const int rows = span.rows;
  if (rows == 0) return;
  const int head = args.head_begin + int(group.y);
  const ulong state = ulong(span.slot) * ulong(args.heads) + ulong(head);
  device State* head_n = n + state * ulong(args.dk);
  device const float* head_gates = gates + ulong(span.first_row) * ulong(args.gates_stride) + ulong(head);
  device float* forgets = token_array(scratch, args, kCellForget, head) + span.first_row;
  device float* inputs = token_array(scratch, args, kCellInput, head) + span.first_row;
  device float* denominators = token_array(scratch, args, kCellDenominator, head) + span.first_row;
  const float first_stabiliser = simd_broadcast_first(lane == 0 ? m[state] : 0.0f);

  for (int begin = 0; begin < args.dk; begin += 32 * kHeld) {
    const bool last_segment = begin + 32 * kHeld >= args.dk;
    const int first = begin + int(lane);
    float held[kHeld];
    XLSTM_UNROLL
    for (int j = 0; j < kHeld; ++j) {
      const int a = first + 32 * j;
      held[j] = a < args.dk ? float(head_n[a]) : 0.0f;
    }
    float stabiliser = first_stabiliser;
    for (int t = 0; t < rows; ++t) {
      const ulong gate_row = ulong(t) * ulong(args.gates_stride);
      const float input_log = input_gate(head_gates[gate_row]);
      const float decayed = log_forget_gate(head_gates[gate_row + ulong(args.heads)]) + stabiliser;
      stabiliser = max(decayed, input_log);
      const float forget = exp(decayed - stabiliser);
      const float input = exp(input_log - stabiliser);
      device const float* q_row = head_row(q, args, span.first_row + t, head, args.dk);
      device const float* k_row = head_row(k, args, span.first_row + t, head, args.dk);
      float sum = 0.0f;
      XLSTM_UNROLL
      for (int j = 0; j < kHeld; ++j) {
        const int a = first + 32 * j;
        if (a < args.dk) {
          held[j] = fma(forget, held[j], input * k_row[a]);
          sum = fma(q_row[a] * args.scale, held[j], sum);
        }
      }
      sum = simd_sum(sum);
      if (lane == 0) {
        const float dot = begin == 0 ? sum : denominators[t] + sum;
        denominators[t] = last_segment ? max(fabs(dot), exp(-stabiliser)) + args.eps : dot;
        forgets[t] = forget;
        inputs[t] = input;
      }
    }
    XLSTM_UNROLL
    for (int j = 0; j < kHeld; ++j) {
      const int a = first + 32 * j;
      if (a < args.dk) head_n[a] = State(held[j]);
    }
    if (last_segment && lane == 0) m[state] = stabiliser;
  }
}

XLSTM_KERNEL_TEMPLATE("cell_recurrent_gates_float32", cell_recurrent_gates, float);
XLSTM_KERNEL_TEMPLATE("cell_recurrent_gates_bfloat16", cell_recurrent_gates, bfloat);

// C and h: a threadgroup per span, head and 32 columns, a lane per column, so that every access to C is 32 neighbours.
// The simdgroups share the rows of C; each holds up to kRows of them.
template <typename State, int kRows>
[[kernel]] void cell_recurrent(constant CellArgs& args [[buffer(0)]], device const float* q [[buffer(1)]],
                               device const float* k [[buffer(2)]], device const float* v [[buffer(3)]],
                               device const float* scratch [[buffer(4)]], device State* c [[buffer(5)]],
                               device float* h [[buffer(6)]], XLSTM_THREAD) {
  // The q and k of each simdgroup's own rows; its sum of h, of two tokens so that one barrier per token is enough.
  XLSTM_SHARED(float2, operands, kRecurrentSimds * kRows);
  XLSTM_SHARED(float, sums, 2 * kRecurrentSimds * 32);
  constant CellSpan& span = args.spans[group.z];
  const int rows = span.rows;
  if (rows == 0) return;
  const int head = args.head_begin + int(group.y);
  const int column = int(group.x) * kCellColumns + int(lane);
  const bool inside = column < args.dv;
  device const float* forgets = token_array(scratch, args, kCellForget, head) + span.first_row;
  device const float* inputs = token_array(scratch, args, kCellInput, head) + span.first_row;
  device const float* denominators = token_array(scratch, args, kCellDenominator, head) + span.first_row;

  const int share = (args.dk_end - args.dk_begin + kRecurrentSimds - 1) / kRecurrentSimds;
  const int first = args.dk_begin + int(simd) * share;
  const int count = max(0, min(share, args.dk_end - first));
  const ulong state = ulong(span.slot) * ulong(args.heads) + ulong(head);
  device State* own = c + (state * ulong(args.dk) + ulong(first)) * ulong(args.dv) + ulong(column);
  float held[kRows];
  XLSTM_UNROLL
  for (int r = 0; r < kRows; ++r) held[r] = r < count && inside ? float(own[ulong(r) * ulong(args.dv)]) : 0.0f;

  threadgroup float2* own_operands = operands + int(simd) * kRows;
  for (int t = 0; t < rows; ++t) {
    const int row = span.first_row + t;
    device const float* q_row = head_row(q, args, row, head, args.dk) + first;
    device const float* k_row = head_row(k, args, row, head, args.dk) + first;
    for (int r = int(lane); r < kRows; r += 32) {
      own_operands[r] = r < count ? float2(q_row[r] * args.scale, k_row[r]) : float2(0.0f, 0.0f);
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);
    const float forget = forgets[t];
    const float value = inside ? inputs[t] * head_row(v, args, row, head, args.dv)[column] : 0.0f;
    float sum = 0.0f;
    XLSTM_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const float2 operand = own_operands[r];
      held[r] = fma(forget, held[r], operand.y * value);
      sum = fma(operand.x, held[r], sum);
    }
    threadgroup float* token_sums = sums + (t & 1) * kRecurrentSimds * 32;
    token_sums[int(simd) * 32 + int(lane)] = sum;
    // Ends the reading of operands too.
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (int(simd) == (t & (kRecurrentSimds - 1)) && inside) {
      device float* out = h + ulong(row) * ulong(args.h_stride) + ulong(head * args.dv + column);
      float total = args.dk_begin == 0 ? 0.0f : *out;
      for (int other = 0; other < kRecurrentSimds; ++other) total += token_sums[other * 32 + int(lane)];
      *out = args.dk_end == args.dk ? total / denominators[t] : total;
    }
  }

  XLSTM_UNROLL
  for (int r = 0; r < kRows; ++r) {
    if (r < count && inside) own[ulong(r) * ulong(args.dv)] = State(held[r]);
  }
}

XLSTM_KERNEL_TEMPLATE("cell_recurrent_float32_8", cell_recurrent, float, 8);
XLSTM_KERNEL_TEMPLATE("cell_recurrent_float32_16", cell_recurrent, float, 16);
XLSTM_KERNEL_TEMPLATE("cell_recurrent_float32_32", cell_recurrent, float, 32);
XLSTM_KERNEL_TEMPLATE("cell_recurrent_float32_64", cell_recurrent, float, 64);
XLSTM_KERNEL_TEMPLATE("cell_recurrent_bfloat16_8", cell_recurrent, bfloat, 8);
XLSTM_KERNEL_TEMPLATE("cell_recurrent_bfloat16_16", cell_recurrent, bfloat, 16);
XLSTM_KERNEL_TEMPLATE("cell_recurrent_bfloat16_32", cell_recurrent, bfloat, 32);
XLSTM_KERNEL_TEMPLATE("cell_recurrent_bfloat16_64", cell_recurrent, bfloat, 64);
