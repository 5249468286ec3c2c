// What the kernels of rows.cu and norms.cu share. Rows are read and written once, by vectors of kRowVector elements
// where widths, strides and addresses allow it and by single ones elsewhere. Weights are loaded before the values that
// other kernels write. For .cu files only.
#pragma once

#include "kernels/cuda/blocks.h"
#include "kernels/cuda/rows.h"
#include "kernels/cuda/warp.h"
#include "xlstm/core/errors.h"

namespace xlstm::cuda {

constexpr int kRowVector = 4;
constexpr unsigned kRowThreads = 256;                           // of a block whose threads work by themselves
constexpr int64_t kMostColumns = int64_t{65535} * kRowThreads;  // so many blocks may lie along y

// Elements that are loaded and stored as one.
template <class T, int kCount>
struct alignas(sizeof(T) * kCount) Pack {
  T v[kCount];
};

template <int kCount, class T>
__device__ inline Pack<T, kCount> load_pack(const T* from) {
  return *reinterpret_cast<const Pack<T, kCount>*>(from);
}

template <int kCount, class T>
__device__ inline void store_pack(T* to, const Pack<T, kCount>& values) {
  *reinterpret_cast<Pack<T, kCount>*>(to) = values;
}

// ProductRows without padding.
struct OutRows {
  void* values;
  int64_t stride;
  int64_t bfloat16;
};

template <int kCount>
__device__ inline void put_pack(const OutRows& out, int64_t row, int column, const Pack<float, kCount>& values) {
  const int64_t index = row * out.stride + column;
  if (out.bfloat16 == 0) {
    store_pack(static_cast<float*>(out.values) + index, values);
    return;
  }
  Pack<__nv_bfloat16, kCount> rounded;
  XLSTM_UNROLL
  for (int i = 0; i < kCount; ++i) rounded.v[i] = __float2bfloat16_rn(values.v[i]);
  store_pack(static_cast<__nv_bfloat16*>(out.values) + index, rounded);
}

// Whether packs of kRowVector elements can be loaded from and stored to `memory`, or there is none.
template <class T>
inline bool is_aligned(const T* memory) {
  return reinterpret_cast<uintptr_t>(memory) % (kRowVector * sizeof(T)) == 0;
}

inline bool is_aligned(const ProductRows& out) {
  return reinterpret_cast<uintptr_t>(out.values) % (kRowVector * (out.bfloat16 ? sizeof(uint16_t) : sizeof(float))) ==
         0;
}

inline bool is_whole(int64_t elements) {
  return elements % kRowVector == 0;
}

inline void check_grid(int64_t rows, int64_t columns) {
  XLSTM_ASSERT(rows >= 0 && rows <= INT32_MAX && columns >= 1 && columns <= kMostColumns);
}

inline unsigned grid_size(int64_t items, int64_t of_a_block) {
  return static_cast<unsigned>(blocks_of(items, of_a_block));
}

inline OutRows out_rows(const ProductRows& out, int64_t width) {
  XLSTM_ASSERT(out.stride >= width && is_whole(out.stride));
  return {out.values, out.stride, out.bfloat16 ? 1 : 0};
}

}  // namespace xlstm::cuda
