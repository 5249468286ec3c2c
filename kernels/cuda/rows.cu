// Operations on rows of activations other than norms (norms.cu).
#include "kernels/cuda/rows.h"

#include "kernels/cuda/product.h"
#include "kernels/cuda/rows_parts.h"

namespace xlstm::cuda {
namespace {

__device__ inline float widen(float value) {
  return value;
}
__device__ inline float widen(__half value) {
  return __half2float(value);
}
__device__ inline float widen(__nv_bfloat16 value) {
  return __bfloat162float(value);
}

struct EmbedArgs {
  const void* table;
  const int32_t* ids;
  int64_t width;
  float* x;
};

// Grid: [rows, width / (kRowThreads · kCount) up].
template <class T, int kCount>
__global__ void __launch_bounds__(kRowThreads) embed_rows(EmbedArgs args) {
  start_next();
  wait_for_previous();
  const auto column = static_cast<int>(blockIdx.y * kRowThreads + threadIdx.x) * kCount;
  if (column >= args.width) return;
  const int64_t from = args.ids[blockIdx.x] * args.width + column;
  const int64_t to = static_cast<int64_t>(blockIdx.x) * args.width + column;
  const auto values = load_pack<kCount>(static_cast<const T*>(args.table) + from);
  Pack<float, kCount> wide;
  XLSTM_UNROLL
  for (int i = 0; i < kCount; ++i) wide.v[i] = widen(values.v[i]);
  store_pack(args.x + to, wide);
}

struct SwigluArgs {
  const void* gate_up;
  const float* bias;
  OutRows out;
  int64_t stride;
  int64_t width;
};

constexpr int kSwigluPacks = 2;  // of a thread

// Grid: [rows, out.stride / (kRowThreads · kSwigluPacks · kCount) up]. kCount is a divisor of kGateUpRun.
template <class T, int kCount>
__global__ void __launch_bounds__(kRowThreads) gate_rows(SwigluArgs args) {
  start_next();
  const int64_t row = blockIdx.x;
  const T* gate_up = static_cast<const T*>(args.gate_up) + row * args.stride;
  const auto first = static_cast<int>(blockIdx.y * kRowThreads * kSwigluPacks + threadIdx.x) * kCount;
  constexpr int kStep = static_cast<int>(kRowThreads) * kCount;
  constexpr auto kRun = static_cast<int>(kGateUpRun);
  const auto gate_place = [](int column) { return 2 * kRun * (column / kRun) + column % kRun; };
  Pack<float, kCount> gate_bias[kSwigluPacks] = {};
  Pack<float, kCount> up_bias[kSwigluPacks] = {};
  XLSTM_UNROLL
  for (int k = 0; k < kSwigluPacks; ++k) {
    const int column = first + k * kStep;
    if (args.bias == nullptr || column >= args.width) continue;
    gate_bias[k] = load_pack<kCount>(args.bias + gate_place(column));
    up_bias[k] = load_pack<kCount>(args.bias + gate_place(column) + kRun);
  }
  wait_for_previous();
  Pack<T, kCount> gate[kSwigluPacks] = {};
  Pack<T, kCount> up[kSwigluPacks] = {};
  XLSTM_UNROLL
  for (int k = 0; k < kSwigluPacks; ++k) {
    const int column = first + k * kStep;
    if (column >= args.width) continue;
    gate[k] = load_pack<kCount>(gate_up + gate_place(column));
    up[k] = load_pack<kCount>(gate_up + gate_place(column) + kRun);
  }
  XLSTM_UNROLL
  for (int k = 0; k < kSwigluPacks; ++k) {
    const int column = first + k * kStep;
    if (column >= args.out.stride) continue;
    Pack<float, kCount> y;
    XLSTM_UNROLL
    for (int i = 0; i < kCount; ++i) {
      const float gate_sum = widen(gate[k].v[i]) + gate_bias[k].v[i];
      const float up_sum = widen(up[k].v[i]) + up_bias[k].v[i];
      y.v[i] = column + i < args.width ? silu(gate_sum) * up_sum : 0.0F;
    }
    put_pack(args.out, row, column, y);
  }
}

struct BiasAndCapArgs {
  float* y;
  const float* bias;
  int64_t stride;
  int64_t width;
  float cap;
  float inverse_cap;
};

constexpr int kCapPacks = 4;  // of a thread

// Grid: [rows, width / (kRowThreads · kCapPacks · kCount) up].
template <int kCount>
__global__ void __launch_bounds__(kRowThreads) cap_rows(BiasAndCapArgs args) {
  start_next();
  const auto first = static_cast<int>(blockIdx.y * kRowThreads * kCapPacks + threadIdx.x) * kCount;
  constexpr int kStep = static_cast<int>(kRowThreads) * kCount;
  float* y = args.y + static_cast<int64_t>(blockIdx.x) * args.stride;
  Pack<float, kCount> bias[kCapPacks] = {};
  XLSTM_UNROLL
  for (int k = 0; k < kCapPacks; ++k) {
    const int column = first + k * kStep;
    if (args.bias != nullptr && column < args.width) bias[k] = load_pack<kCount>(args.bias + column);
  }
  wait_for_previous();
  Pack<float, kCount> values[kCapPacks] = {};
  XLSTM_UNROLL
  for (int k = 0; k < kCapPacks; ++k) {
    const int column = first + k * kStep;
    if (column < args.width) values[k] = load_pack<kCount>(y + column);
  }
  XLSTM_UNROLL
  for (int k = 0; k < kCapPacks; ++k) {
    const int column = first + k * kStep;
    if (column >= args.width) continue;
    XLSTM_UNROLL
    for (int i = 0; i < kCount; ++i) {
      const float value = values[k].v[i] + bias[k].v[i];
      values[k].v[i] = args.cap == 0 ? value : args.cap * tanhf(value * args.inverse_cap);
    }
    store_pack(y + column, values[k]);
  }
}

template <class T>
void embed_as(Queue& queue, const Embed& args) {
  check_grid(args.rows, args.width);
  const EmbedArgs own = {args.table, args.ids, args.width, args.x};
  const auto rows = static_cast<unsigned>(args.rows);
  if (is_aligned(static_cast<const T*>(args.table)) && is_aligned(args.x) && is_whole(args.width)) {
    run<embed_rows<T, kRowVector>>(
        queue, {.x = rows, .y = grid_size(args.width, int64_t{kRowThreads} * kRowVector), .threads = kRowThreads}, own);
  } else {
    run<embed_rows<T, 1>>(queue, {.x = rows, .y = grid_size(args.width, kRowThreads), .threads = kRowThreads}, own);
  }
}

// By packs of kCount where rows can be read and written so, else by single values.
template <class T, int kCount>
void swiglu_of(Queue& queue, const Swiglu& args) {
  check_grid(args.rows, args.out.stride);
  const SwigluArgs own = {args.gate_up, args.bias, out_rows(args.out, args.width), args.stride, args.width};
  const auto rows = static_cast<unsigned>(args.rows);
  constexpr int64_t kBlock = int64_t{kRowThreads} * kSwigluPacks;
  constexpr uintptr_t kBytes = kCount * sizeof(float);
  const auto address = [](const void* memory) { return reinterpret_cast<uintptr_t>(memory); };
  const bool is_aligned =
      address(args.gate_up) % kBytes == 0 && address(args.out.values) % kBytes == 0 && address(args.bias) % kBytes == 0;
  // The last pack may reach behind the width, but not behind its run.
  const bool has_whole_runs = args.stride >= 2 * kGateUpRun * blocks_of(args.width, kGateUpRun);
  if (has_whole_runs && is_aligned && args.stride % kCount == 0) {
    run<gate_rows<T, kCount>>(
        queue, {.x = rows, .y = grid_size(args.out.stride, kBlock * kCount), .threads = kRowThreads}, own);
  } else {
    run<gate_rows<T, 1>>(queue, {.x = rows, .y = grid_size(args.out.stride, kBlock), .threads = kRowThreads}, own);
  }
}

}  // namespace

void embed(Queue& queue, const Embed& args) {
  switch (args.type) {
    case WeightFormat::kFloat32: return embed_as<float>(queue, args);
    case WeightFormat::kFloat16: return embed_as<__half>(queue, args);
    case WeightFormat::kBfloat16: return embed_as<__nv_bfloat16>(queue, args);
    default: XLSTM_ASSERT(false);
  }
}

void swiglu(Queue& queue, const Swiglu& args) {
  if (args.bfloat16) {
    swiglu_of<__nv_bfloat16, 2 * kRowVector>(queue, args);
  } else {
    swiglu_of<float, kRowVector>(queue, args);
  }
}

void add_bias_and_cap(Queue& queue, const BiasAndCap& args) {
  if (args.bias == nullptr && args.cap == 0) return;
  check_grid(args.rows, args.width);
  const BiasAndCapArgs own = {args.y,     args.bias, args.stride,
                              args.width, args.cap,  args.cap == 0 ? 0.0F : 1.0F / args.cap};
  const auto rows = static_cast<unsigned>(args.rows);
  constexpr int64_t kBlock = int64_t{kRowThreads} * kCapPacks;
  if (is_aligned(args.y) && is_aligned(args.bias) && is_whole(args.stride) && is_whole(args.width)) {
    run<cap_rows<kRowVector>>(
        queue, {.x = rows, .y = grid_size(args.width, kBlock * kRowVector), .threads = kRowThreads}, own);
  } else {
    run<cap_rows<1>>(queue, {.x = rows, .y = grid_size(args.width, kBlock), .threads = kRowThreads}, own);
  }
}

}  // namespace xlstm::cuda
