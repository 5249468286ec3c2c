// The mLSTM cell tile by tile: what is one value per token and head, and n.
#include "kernels/metal/msl.h"
#include "kernels/metal/cell_args.h"
#include "kernels/metal/cell_common.h"

using namespace xlstm::shader;

// A sum of two floats with the digits of both: differences of long sums of log gates must not lose what the sums take.
struct Pair {
  float high;
  float low;
};

inline Pair pair_of(float high, float low) {
  Pair pair;
  pair.high = high;
  pair.low = low;
  return pair;
}

// a + b without error (Knuth).
inline Pair exact_sum(float a, float b) {
  const float sum = a + b;
  const float b_part = sum - a;
  return pair_of(sum, (a - (sum - b_part)) + (b - b_part));
}

inline Pair add(Pair a, Pair b) {
  const Pair sum = exact_sum(a.high, b.high);
  const float low = sum.low + (a.low + b.low);
  const float high = sum.high + low;
  return pair_of(high, low - (high - sum.high));
}

// e^x for a log that is at most 0 but for rounding errors.
inline float exp_of_share(Pair x) {
  const float e = exp(min(x.high, 0.0f));
  return x.high < 0.0f ? fma(e, x.low, e) : e;
}

// Tokens that follow each other: the log of their forget gates, and the stabiliser that they would end on by themselves.
struct Stretch {
  Pair decay;
  float stabiliser;
};

inline Stretch stretch_of(float log_forget, float input) {
  Stretch stretch;
  stretch.decay = pair_of(log_forget, 0.0f);
  stretch.stabiliser = input;
  return stretch;
}

inline Stretch join(Stretch before, Stretch after) {
  Stretch both;
  both.decay = add(before.decay, after.decay);
  both.stabiliser = max(before.stabiliser + after.decay.high + after.decay.low, after.stabiliser);
  return both;
}

// The stretch from the simdgroup's first lane to each.
inline Stretch join_lanes(Stretch own, uint lane) {
  for (uint distance = 1; distance < 32; distance *= 2) {
    Stretch before;
    before.decay.high = simd_shuffle_up(own.decay.high, distance);
    before.decay.low = simd_shuffle_up(own.decay.low, distance);
    before.stabiliser = simd_shuffle_up(own.stabiliser, distance);
    if (lane >= distance) own = join(before, own);
  }
  return own;
}

// One simdgroup per span and head: two tokens of a tile per lane, tile after tile. Also ends m.
//
// m_t = max(b_t + m before the tile, max over s ≤ t of b_t - b_s + i_s), b the sum of the log forget gates: the
// recurrence's own stabiliser, found by a prefix sum in the algebra of max and plus.
[[kernel]] void cell_chunk_gates(constant CellArgs& args [[buffer(0)]], device const float* gates [[buffer(1)]],
                                 device float* m [[buffer(2)]], device float* scratch [[buffer(3)]], XLSTM_THREAD) {
  constant CellSpan& span = args.spans[group.z];
  if (span.rows == 0) return;
  const int head = args.head_begin + int(group.y);
  device float* head_m = m + ulong(span.slot) * ulong(args.heads) + ulong(head);
  device float* shares = token_array(scratch, args, kCellForget, head) + span.first_row;
  device float* weights = token_array(scratch, args, kCellInput, head) + span.first_row;
  device float* stabilisers = token_array(scratch, args, kCellStabiliser, head) + span.first_row;
  device float* inputs = token_array(scratch, args, kCellGate, head) + span.first_row;
  device float* decays_high = token_array(scratch, args, kCellDecayHigh, head) + span.first_row;
  device float* decays_low = token_array(scratch, args, kCellDecayLow, head) + span.first_row;

  float before = simd_broadcast_first(lane == 0 ? *head_m : 0.0f);
  for (int begin = 0; begin < span.rows; begin += args.tile) {
    const int tokens = min(args.tile, span.rows - begin);
    // Absent tokens leave the sums as they are.
    float input[2] = {-INFINITY, -INFINITY};
    float log_forget[2] = {0.0f, 0.0f};
    XLSTM_UNROLL
    for (int j = 0; j < 2; ++j) {
      const int t = 2 * int(lane) + j;
      if (t < tokens) {
        device const float* row = gates + ulong(span.first_row + begin + t) * ulong(args.gates_stride) + ulong(head);
        input[j] = input_gate(row[0]);
        log_forget[j] = log_forget_gate(row[args.heads]);
      }
    }
    const Stretch first = stretch_of(log_forget[0], input[0]);
    const Stretch to_second = join_lanes(join(first, stretch_of(log_forget[1], input[1])), lane);
    Stretch to_first;
    to_first.decay.high = simd_shuffle_up(to_second.decay.high, 1u);
    to_first.decay.low = simd_shuffle_up(to_second.decay.low, 1u);
    to_first.stabiliser = simd_shuffle_up(to_second.stabiliser, 1u);
    to_first = join(to_first, first);
    if (lane == 0) to_first = first;
    const Pair decay[2] = {to_first.decay, to_second.decay};
    const float stabiliser[2] = {max(before + decay[0].high + decay[0].low, to_first.stabiliser),
                                 max(before + decay[1].high + decay[1].low, to_second.stabiliser)};

    // Of the tile's last token.
    const ushort last_lane = ushort((tokens - 1) / 2);
    const bool last_is_second = tokens % 2 == 0;
    const Pair whole = pair_of(simd_broadcast(last_is_second ? decay[1].high : decay[0].high, last_lane),
                               simd_broadcast(last_is_second ? decay[1].low : decay[0].low, last_lane));
    const float after = simd_broadcast(last_is_second ? stabiliser[1] : stabiliser[0], last_lane);
    XLSTM_UNROLL
    for (int j = 0; j < 2; ++j) {
      const int t = 2 * int(lane) + j;
      if (t < tokens) {
        const Pair to_end = add(whole, pair_of(-decay[j].high, -decay[j].low));
        const int at = begin + t;
        decays_high[at] = decay[j].high;
        decays_low[at] = decay[j].low;
        inputs[at] = input[j];
        stabilisers[at] = stabiliser[j];
        shares[at] = exp_of_share(add(decay[j], exact_sum(before, -stabiliser[j])));
        weights[at] = exp_of_share(add(to_end, exact_sum(input[j], -after)));
      }
    }
    before = after;
  }
  if (lane == 0) *head_m = before;
}

XLSTM_KERNEL("cell_chunk_gates", cell_chunk_gates);

// n and the denominators of h, of the gated scores S and S's tile: a threadgroup per span and head. n goes by in
// segments that the threadgroup can hold.
template <typename State>
[[kernel]] void cell_chunk_normalizer(constant CellArgs& args [[buffer(0)]], device const float* q [[buffer(1)]],
                                      device const float* k [[buffer(2)]], device const float* scores [[buffer(3)]],
                                      device State* n [[buffer(4)]], device float* scratch [[buffer(5)]],
                                      XLSTM_THREAD) {
  enum : int { kThreads = 32 * kNormalizerSimds, kHeld = 4, kSegment = kHeld * kThreads };
  XLSTM_SHARED(float, shared_n, kSegment);
  constant CellSpan& span = args.spans[group.z];
  if (span.rows == 0) return;
  const int head = args.head_begin + int(group.y);
  const int index = int(simd) * 32 + int(lane);
  device State* head_n = n + (ulong(span.slot) * ulong(args.heads) + ulong(head)) * ulong(args.dk);
  device const float* shares = token_array(scratch, args, kCellForget, head) + span.first_row;
  device const float* weights = token_array(scratch, args, kCellInput, head) + span.first_row;
  device const float* stabilisers = token_array(scratch, args, kCellStabiliser, head) + span.first_row;
  device float* denominators = token_array(scratch, args, kCellDenominator, head) + span.first_row;

  for (int segment = 0; segment < args.dk; segment += kSegment) {
    const int features = min(int(kSegment), args.dk - segment);
    const bool last_segment = segment + features == args.dk;
    // Outside of the dot products each element is one thread's own.
    for (int a = index; a < features; a += kThreads) shared_n[a] = float(head_n[segment + a]);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (int begin = 0, tile = span.first_tile; begin < span.rows; begin += args.tile, ++tile) {
      const int tokens = min(args.tile, span.rows - begin);
      device const float* tile_scores = score_tile(scores, args, tile, head);
      // A simdgroup works on the same tokens for each segment, whose sums it so finds again.
      for (int t = int(simd); t < tokens; t += kNormalizerSimds) {
        device const float* q_row = head_row(q, args, span.first_row + begin + t, head, args.dk) + segment;
        float sum = 0.0f;
        for (int a = int(lane); a < features; a += 32) sum = fma(q_row[a], shared_n[a], sum);
        sum *= args.scale * shares[begin + t];
        if (segment == 0) {
          for (int s = int(lane); s <= t; s += 32) sum += tile_scores[t * args.score_stride + s];
        }
        sum = simd_sum(sum);
        if (lane == 0) {
          const float dot = segment == 0 ? sum : denominators[begin + t] + sum;
          denominators[begin + t] = last_segment ? max(fabs(dot), exp(-stabilisers[begin + t])) + args.eps : dot;
        }
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);
      const float decay = shares[begin + tokens - 1];
      for (int a = index; a < features; a += kThreads) {
        float sum = decay * shared_n[a];
        for (int t = 0; t < tokens; ++t) {
          const float key = head_row(k, args, span.first_row + begin + t, head, args.dk)[segment + a];
          sum = fma(weights[begin + t], key, sum);
        }
        shared_n[a] = sum;
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    for (int a = index; a < features; a += kThreads) head_n[segment + a] = State(shared_n[a]);
  }
}

XLSTM_KERNEL_TEMPLATE("cell_chunk_normalizer_float32", cell_chunk_normalizer, float);
XLSTM_KERNEL_TEMPLATE("cell_chunk_normalizer_bfloat16", cell_chunk_normalizer, bfloat);
