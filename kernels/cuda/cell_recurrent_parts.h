// What the kernels of cell_recurrent.cu, step and sequence, share: the part of C that a thread holds, the memory of a
// block, the gates and n of a group of tokens, their h. For .cu files only.
#pragma once

#include <cstring>

#include "kernels/cuda/cell_recurrent.h"
#include "kernels/cuda/warp.h"

namespace xlstm::cuda {

constexpr unsigned kRecurrentThreads = 256;
constexpr unsigned kRecurrentWarps = kRecurrentThreads / 32;
constexpr unsigned kColumnLanes = 8;
constexpr unsigned kRowLanes = kRecurrentThreads / kColumnLanes;
constexpr unsigned kGroupTokens = 8;  // of a sequence that are worked on between two barriers, at most
constexpr float kNever = -1e30F;  // Gates below act as this one: exponentials are 0, differences are never infinite.

struct RecurrentArgs {
  Recurrent call;
  int32_t padded_dk;  // whole shares of rows
  int32_t tokens;     // of a group: at most kGroupTokens
  int32_t strips;     // of columns, that a head has
  int32_t tasks;      // all strips of all heads of all spans
};

// What a block takes: a strip of columns of a head of a span.
struct Task {
  int32_t strip;
  int32_t head;
  int32_t span;
};

__device__ __forceinline__ Task task_at(const RecurrentArgs& args, int32_t index) {
  const auto strips = static_cast<uint32_t>(args.strips);
  const auto heads = static_cast<uint32_t>(args.call.cell.heads);
  const uint32_t head_of_all = static_cast<uint32_t>(index) / strips;
  return {static_cast<int32_t>(static_cast<uint32_t>(index) % strips), static_cast<int32_t>(head_of_all % heads),
          static_cast<int32_t>(head_of_all / heads)};
}

// Neighbouring columns of C as a thread moves them.
template <class State, unsigned kVector>
struct Piece;

template <>
struct Piece<float, 4> {
  using Raw = uint4;
  static __device__ __forceinline__ void unpack(const Raw& raw, float (&x)[4]) {
    x[0] = __uint_as_float(raw.x);
    x[1] = __uint_as_float(raw.y);
    x[2] = __uint_as_float(raw.z);
    x[3] = __uint_as_float(raw.w);
  }
  static __device__ __forceinline__ Raw pack(const float (&x)[4]) {
    return make_uint4(__float_as_uint(x[0]), __float_as_uint(x[1]), __float_as_uint(x[2]), __float_as_uint(x[3]));
  }
};

template <>
struct Piece<__nv_bfloat16, 8> {
  using Raw = uint4;
  static __device__ __forceinline__ void unpack(const Raw& raw, float (&x)[8]) {
    const uint32_t pairs[4] = {raw.x, raw.y, raw.z, raw.w};
    XLSTM_UNROLL
    for (int i = 0; i < 4; ++i) {
      x[2 * i] = __uint_as_float(pairs[i] << 16);
      x[2 * i + 1] = __uint_as_float(pairs[i] & 0xffff0000U);
    }
  }
  static __device__ __forceinline__ uint32_t pack_pair(float low, float high) {
    const __nv_bfloat16 pair[2] = {__float2bfloat16_rn(low), __float2bfloat16_rn(high)};
    uint32_t bits;
    memcpy(&bits, pair, sizeof(bits));
    return bits;
  }
  static __device__ __forceinline__ Raw pack(const float (&x)[8]) {
    return make_uint4(pack_pair(x[0], x[1]), pack_pair(x[2], x[3]), pack_pair(x[4], x[5]), pack_pair(x[6], x[7]));
  }
};

__device__ __forceinline__ float widen_state(float x) {
  return x;
}
__device__ __forceinline__ float widen_state(__nv_bfloat16 x) {
  return __bfloat162float(x);
}
__device__ __forceinline__ void narrow_state(float x, float& to) {
  to = x;
}
__device__ __forceinline__ void narrow_state(float x, __nv_bfloat16& to) {
  to = __float2bfloat16_rn(x);
}

// For rows of C that are not whole vectors.
template <class State>
struct Piece<State, 1> {
  using Raw = State;
  static __device__ __forceinline__ void unpack(const Raw& raw, float (&x)[1]) { x[0] = widen_state(raw); }
  static __device__ __forceinline__ Raw pack(const float (&x)[1]) {
    Raw raw;
    narrow_state(x[0], raw);
    return raw;
  }
};

// The part of C that a thread holds.
template <class State, unsigned kVector, unsigned kRows>
struct Strip {
  using Piece = cuda::Piece<State, kVector>;
  using Raw = typename Piece::Raw;
  static constexpr unsigned kWidth = kColumnLanes * kVector;  // columns of the block
  static constexpr unsigned kShareRows = kRowLanes * kRows;

  __device__ __forceinline__ Strip(const CellTensors& cell, int32_t strip, int64_t state)
      : row(static_cast<int32_t>(threadIdx.x / kColumnLanes)), row_step(int64_t{kRowLanes} * cell.dv / kVector) {
    const auto column =
        static_cast<int32_t>(static_cast<uint32_t>(strip) * kWidth + threadIdx.x % kColumnLanes * kVector);
    dk = column < cell.dv ? cell.dk : 0;
    c = reinterpret_cast<Raw*>(static_cast<State*>(cell.c) + (state * cell.dk + row) * cell.dv + column);
  }

  // The thread's first piece in the share of rows from `begin` on; the next ones follow every row_step.
  [[nodiscard]] __device__ __forceinline__ Raw* share(int32_t begin) const { return c + begin / kRowLanes * row_step; }
  [[nodiscard]] static __device__ __forceinline__ Raw no_piece() {
    const float zeros[kVector] = {};
    return Piece::pack(zeros);
  }
  // Behind the end there are zeros.
  __device__ __forceinline__ void load(int32_t begin, Raw (&raw)[kRows]) const {
    const Raw* from = share(begin);
    XLSTM_UNROLL
    for (unsigned j = 0; j < kRows; ++j) {
      raw[j] = no_piece();
      if (row_of(begin, j) < dk) raw[j] = *from;
      from += row_step;
    }
  }
  [[nodiscard]] __device__ __forceinline__ int32_t row_of(int32_t begin, unsigned j) const {
    return begin + row + static_cast<int32_t>(j * kRowLanes);
  }

  int32_t row;       // the first of each share
  int64_t row_step;  // pieces from one row of the thread to its next
  int32_t dk;        // 0 if the columns are behind the end
  Raw* c;            // the first piece
};

// Dynamic shared memory; `tokens` are those of a group.
struct Shared {
  float2* operands;  // [tokens, padded_dk] q · scale and k, zeros behind dk
  float* n;          // [padded_dk] each element belongs to one thread: element i to thread i % kRecurrentThreads
  float* values;     // [tokens, width] input gate · v
  float* partials;   // [tokens, kRecurrentWarps, width] each warp's part of qᵀC
  float* dots;       // [2, tokens, kRecurrentWarps] each warp's part of qᵀn; groups take turns
  float* floors;     // [2, tokens] exp(-m)
  float* is_last;    // [1] 1 if no strip of the head arrived later
};

__device__ __forceinline__ Shared divide(float* memory, const RecurrentArgs& args, unsigned width) {
  const auto tokens = static_cast<unsigned>(args.tokens);
  const auto padded_dk = static_cast<unsigned>(args.padded_dk);
  Shared shared;
  shared.operands = reinterpret_cast<float2*>(memory);
  shared.n = memory + 2 * tokens * padded_dk;
  shared.values = shared.n + padded_dk;
  shared.partials = shared.values + tokens * width;
  shared.dots = shared.partials + tokens * kRecurrentWarps * width;
  shared.floors = shared.dots + 2 * tokens * kRecurrentWarps;
  shared.is_last = shared.floors + 2 * tokens;
  return shared;
}

inline unsigned shared_bytes_of(unsigned tokens, unsigned padded_dk, unsigned width) {
  return (tokens * (2 * padded_dk + width + kRecurrentWarps * width + 2 * kRecurrentWarps + 2) + padded_dk + 1) *
         sizeof(float);
}

// What a group's tokens need of memory, read ahead; of q and k the first kRecurrentThreads features.
template <unsigned kTokens, unsigned kWidth>
struct Ahead {
  static constexpr unsigned kValues = (kTokens * kWidth + kRecurrentThreads - 1) / kRecurrentThreads;
  float q[kTokens];
  float k[kTokens];
  float v[kValues];  // thread's element i: token (thread + i · kRecurrentThreads) / kWidth
  float input;       // gates of token `lane`, of the last one in lanes behind it
  float forget;
};

__device__ __forceinline__ const float* head_row(const CellTensors& cell, const float* values, int32_t head,
                                                 int64_t row, int32_t features) {
  return values + row * cell.qkv_stride + int64_t{head} * features;
}

// Of `count` tokens from `first_row` on.
template <unsigned kTokens, unsigned kWidth>
__device__ __forceinline__ void read_ahead(const CellTensors& cell, const Task& task, int64_t first_row, int32_t count,
                                           Ahead<kTokens, kWidth>& ahead) {
  const auto feature = static_cast<int32_t>(threadIdx.x);
  XLSTM_UNROLL
  for (int32_t t = 0; t < static_cast<int32_t>(kTokens); ++t) {
    const bool inside = t < count && feature < cell.dk;
    ahead.q[t] = inside ? head_row(cell, cell.q, task.head, first_row + t, cell.dk)[feature] : 0.0F;
    ahead.k[t] = inside ? head_row(cell, cell.k, task.head, first_row + t, cell.dk)[feature] : 0.0F;
  }
  XLSTM_UNROLL
  for (unsigned i = 0; i < ahead.kValues; ++i) {
    const unsigned at = threadIdx.x + i * kRecurrentThreads;
    const auto t = static_cast<int32_t>(at / kWidth);
    const auto column = static_cast<int32_t>(static_cast<uint32_t>(task.strip) * kWidth + at % kWidth);
    const bool inside = t < count && column < cell.dv;
    ahead.v[i] = inside ? head_row(cell, cell.v, task.head, first_row + t, cell.dv)[column] : 0.0F;
  }
  const auto lane = static_cast<int32_t>(threadIdx.x % 32);
  const float* gates = cell.gates + (first_row + (lane < count ? lane : count - 1)) * cell.gates_stride + task.head;
  ahead.input = gates[0];
  ahead.forget = gates[cell.heads];
}

// The factors of a group's tokens, token t's in lane t.
struct Gates {
  float forget;
  float input;
  float floor;  // exp(-m) behind the token
};

// The value of token t of a group.
template <unsigned kTokens>
__device__ __forceinline__ float of_token(float value, unsigned t) {
  if constexpr (kTokens == 1) {
    return value;  // All lanes have it.
  } else {
    return __shfl_sync(kAllLanes, value, static_cast<int>(t % 32));
  }
}

__device__ __forceinline__ float clamp_gate(float x) {
  return x < kNever ? kNever : x;
}

__device__ __forceinline__ float log_sigmoid(float x) {
  return clamp_gate(fminf(x, 0.0F) - log1pf(expf(-fabsf(x))));
}

// Takes the stabiliser m from before the group to behind it.
template <unsigned kTokens>
__device__ __forceinline__ Gates gates_of(float input, float forget, int32_t count, float& m) {
  const auto lane = static_cast<int32_t>(threadIdx.x % 32);
  const float log_input = clamp_gate(input);
  const float log_forget = log_sigmoid(forget);
  float decayed = 0.0F;
  float stabiliser = 0.0F;
  for (int32_t t = 0; t < count; ++t) {
    const float before = of_token<kTokens>(log_forget, t) + m;
    m = fmaxf(before, of_token<kTokens>(log_input, t));
    if (kTokens == 1 || lane == t) {
      decayed = before;
      stabiliser = m;
    }
  }
  return {expf(decayed - stabiliser), expf(log_input - stabiliser), expf(-stabiliser)};
}

// Of the first kRecurrentThreads elements of n the thread's own.
template <class State>
__device__ __forceinline__ float read_normaliser(const CellTensors& cell, int64_t state) {
  const auto a = static_cast<int32_t>(threadIdx.x);
  return a < cell.dk ? widen_state(static_cast<const State*>(cell.n)[state * cell.dk + a]) : 0.0F;
}

// n into shared memory; `first` is what read_normaliser() returned.
template <class State>
__device__ __forceinline__ void load_normaliser(const CellTensors& cell, int64_t state, float first, float* n) {
  const State* const from = static_cast<const State*>(cell.n) + state * cell.dk;
  int32_t a = threadIdx.x;
  if (a < cell.dk) n[a] = first;
  for (a += kRecurrentThreads; a < cell.dk; a += kRecurrentThreads) n[a] = widen_state(from[a]);
}

template <class State>
__device__ __forceinline__ void store_normaliser(const CellTensors& cell, int64_t state, const float* n) {
  State* const to = static_cast<State*>(cell.n) + state * cell.dk;
  for (int32_t a = threadIdx.x; a < cell.dk; a += kRecurrentThreads) narrow_state(n[a], to[a]);
}

// Where the tokens of a group are, and what is done with them.
struct Group {
  Task task;
  int64_t first_row;
  int32_t count;
  unsigned turn;     // 0 or 1: whose dots and floors
  bool with_n;       // n and the denominators come with the last share of C's rows
  bool first_share;  // h begins
};

// q and k of a token into shared memory; if it is time for n, the step of n and this warp's part of qᵀn.
__device__ __forceinline__ void stage_features(const RecurrentArgs& args, const Group& group, unsigned t, float q,
                                               float k, float forget, float input, const Shared& shared) {
  const CellTensors& cell = args.call.cell;
  const float* const q_row = head_row(cell, cell.q, group.task.head, group.first_row + t, cell.dk);
  const float* const k_row = head_row(cell, cell.k, group.task.head, group.first_row + t, cell.dk);
  float2* const operands = shared.operands + t * static_cast<unsigned>(args.padded_dk);
  float sum = 0.0F;
  for (int32_t a = threadIdx.x; a < args.padded_dk; a += kRecurrentThreads) {
    if (a >= static_cast<int32_t>(kRecurrentThreads)) {
      q = a < cell.dk ? q_row[a] : 0.0F;
      k = a < cell.dk ? k_row[a] : 0.0F;
    }
    const float scaled = q * cell.scale;
    operands[a] = make_float2(scaled, k);
    if (group.with_n && a < cell.dk) {
      const float next = fmaf(forget, shared.n[a], input * k);
      shared.n[a] = next;
      sum = fmaf(scaled, next, sum);
    }
  }
  if (!group.with_n) return;  // the same in all threads
  sum = warp_sum(sum);
  const unsigned at = group.turn * static_cast<unsigned>(args.tokens) + t;
  if (threadIdx.x % 32 == 0) shared.dots[at * kRecurrentWarps + threadIdx.x / 32] = sum;
}

template <unsigned kTokens, unsigned kWidth>
__device__ __forceinline__ void stage_group(const RecurrentArgs& args, const Group& group,
                                            const Ahead<kTokens, kWidth>& ahead, const Gates& gates,
                                            const Shared& shared) {
  XLSTM_UNROLL
  for (unsigned t = 0; t < kTokens; ++t) {
    if (static_cast<int32_t>(t) >= group.count) break;  // the same in all threads
    const float forget = of_token<kTokens>(gates.forget, t);
    const float input = of_token<kTokens>(gates.input, t);
    stage_features(args, group, t, ahead.q[t], ahead.k[t], forget, input, shared);
  }
  XLSTM_UNROLL
  for (unsigned i = 0; i < ahead.kValues; ++i) {
    const unsigned at = threadIdx.x + i * kRecurrentThreads;
    const float input = of_token<kTokens>(gates.input, at / kWidth);
    if (static_cast<int32_t>(at / kWidth) < group.count) shared.values[at] = input * ahead.v[i];
  }
  if (static_cast<int32_t>(threadIdx.x) < group.count) {
    shared.floors[group.turn * static_cast<unsigned>(args.tokens) + threadIdx.x] = gates.floor;
  }
}

template <unsigned kVector>
__device__ __forceinline__ void read_vector(const float* from, float (&x)[kVector]) {
  if constexpr (kVector == 1) {
    x[0] = from[0];
  } else {
    XLSTM_UNROLL
    for (unsigned i = 0; i < kVector; i += 4) {
      const float4 four = *reinterpret_cast<const float4*>(from + i);
      x[i] = four.x;
      x[i + 1] = four.y;
      x[i + 2] = four.z;
      x[i + 3] = four.w;
    }
  }
}

template <unsigned kVector>
__device__ __forceinline__ void write_vector(const float (&x)[kVector], float* to) {
  if constexpr (kVector == 1) {
    to[0] = x[0];
  } else {
    XLSTM_UNROLL
    for (unsigned i = 0; i < kVector; i += 4) {
      *reinterpret_cast<float4*>(to + i) = make_float4(x[i], x[i + 1], x[i + 2], x[i + 3]);
    }
  }
}

// One row of C, and what it adds to qᵀC.
template <unsigned kVector>
__device__ __forceinline__ void advance_row(const float2& operand, float forget, const float (&values)[kVector],
                                            float (&c)[kVector], float (&sums)[kVector]) {
  XLSTM_UNROLL
  for (unsigned i = 0; i < kVector; ++i) {
    c[i] = fmaf(forget, c[i], operand.y * values[i]);
    sums[i] = fmaf(operand.x, c[i], sums[i]);
  }
}

// The warp's sums of token t; each of its first kColumnLanes lanes writes its columns.
template <unsigned kVector>
__device__ __forceinline__ void write_partials(float (&sums)[kVector], unsigned t, const Shared& shared) {
  XLSTM_UNROLL
  for (unsigned i = 0; i < kVector; ++i) {
    XLSTM_UNROLL
    for (int distance = 16; distance >= static_cast<int>(kColumnLanes); distance /= 2) {
      sums[i] += __shfl_xor_sync(kAllLanes, sums[i], distance);
    }
  }
  const unsigned lane = threadIdx.x % 32;
  float* const to = shared.partials + ((t * kRecurrentWarps + threadIdx.x / 32) * kColumnLanes + lane) * kVector;
  if (lane < kColumnLanes) write_vector(sums, to);
}

// h of a group, behind a barrier.
template <unsigned kWidth>
__device__ __forceinline__ void write_h(const RecurrentArgs& args, const Group& group, const Shared& shared) {
  const CellTensors& cell = args.call.cell;
  for (unsigned at = threadIdx.x; at < static_cast<unsigned>(group.count) * kWidth; at += kRecurrentThreads) {
    const unsigned t = at / kWidth;
    const unsigned in_strip = at % kWidth;
    const auto column = static_cast<int32_t>(static_cast<uint32_t>(group.task.strip) * kWidth + in_strip);
    if (column >= cell.dv) continue;
    float* const h = cell.h + (group.first_row + t) * cell.h_stride + int64_t{group.task.head} * cell.dv;
    float total = group.first_share ? 0.0F : h[column];
    XLSTM_UNROLL
    for (unsigned warp = 0; warp < kRecurrentWarps; ++warp)
      total += shared.partials[(t * kRecurrentWarps + warp) * kWidth + in_strip];
    if (group.with_n) {
      const unsigned token = group.turn * static_cast<unsigned>(args.tokens) + t;
      float dot = 0.0F;
      XLSTM_UNROLL
      for (unsigned warp = 0; warp < kRecurrentWarps; ++warp) dot += shared.dots[token * kRecurrentWarps + warp];
      total /= fmaxf(fabsf(dot), shared.floors[token]) + cell.eps;
    }
    h[column] = total;
  }
}

// How many of the head's strips have read n and m before this one, for thread 0; a barrier stands between their reads
// and this, so that whoever finds all others gone may write. Without a fence: values that were used have been read.
// A float, since compilers add integers up within the warp and wait for the sum at once; it is needed later.
__device__ __forceinline__ float arrive(const RecurrentArgs& args, int64_t state) {
  if (threadIdx.x != 0 || args.strips == 1) return 0.0F;
  return atomicAdd(args.call.arrivals + state, 1.0F);
}

// The end of a task, for all threads of the block: `before` is what arrive() returned.
template <class State>
__device__ __forceinline__ void store_if_last(const RecurrentArgs& args, int64_t state, float before, float m,
                                              const Shared& shared) {
  if (threadIdx.x == 0) shared.is_last[0] = before + 1.0F == static_cast<float>(args.strips) ? 1.0F : 0.0F;
  __syncthreads();
  if (shared.is_last[0] == 0.0F) return;
  const CellTensors& cell = args.call.cell;
  store_normaliser<State>(cell, state, shared.n);
  if (threadIdx.x != 0) return;
  cell.m[state] = m;
  args.call.arrivals[state] = 0.0F;
}

// Never from the cache: a step reads it again when the kernel that may write it has ended.
__device__ __forceinline__ const volatile CellSpan& span_of(const RecurrentArgs& args, const Task& task) {
  return reinterpret_cast<const volatile CellSpan*>(args.call.spans)[task.span];
}

__device__ __forceinline__ int64_t state_of(const RecurrentArgs& args, const Task& task, int32_t slot) {
  return int64_t{slot} * args.call.cell.heads + task.head;
}

}  // namespace xlstm::cuda
