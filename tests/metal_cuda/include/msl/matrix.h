// 8×8 matrices spread over the lanes of a simdgroup, in plain code.
//
// A lane holds the elements [row][column] and [row][column + 1] with
//   q = lane / 4,  row = (q & 4) + (lane / 2) % 4,  column = (q & 2) · 2 + (lane % 2) · 2.
#pragma once

#include "msl/simd.h"

namespace metal {

template <class T, int Columns, int Rows>
struct simdgroup_matrix {
  static_assert(Columns == 8 && Rows == 8);
  simdgroup_matrix() = default;
  XLSTM_MSL explicit simdgroup_matrix(T value) : elements(value) {}
  XLSTM_MSL vec<T, 2>& thread_elements() { return elements; }
  XLSTM_MSL const vec<T, 2>& thread_elements() const { return elements; }
  vec<T, 2> elements;
};

using simdgroup_float8x8 = simdgroup_matrix<float, 8, 8>;
using simdgroup_half8x8 = simdgroup_matrix<half, 8, 8>;
using simdgroup_bfloat8x8 = simdgroup_matrix<bfloat, 8, 8>;

template <class T, int Columns, int Rows>
XLSTM_MSL simdgroup_matrix<T, Columns, Rows> make_filled_simdgroup_matrix(T value) {
  return simdgroup_matrix<T, Columns, Rows>(value);
}

// Where this lane's elements stand.
XLSTM_MSL uint xlstm_matrix_row() {
  return (threadIdx.x / 4 & 4) + threadIdx.x / 2 % 4;
}
XLSTM_MSL uint xlstm_matrix_column() {
  return (threadIdx.x / 4 & 2) * 2 + threadIdx.x % 2 * 2;
}
// The lane with element [row][column], column even.
XLSTM_MSL uint xlstm_matrix_lane(uint row, uint column) {
  return (row & 4) * 4 + (column & 4) * 2 + (row & 3) * 2 + (column & 2) / 2;
}

// The offset of this lane's i-th element. `origin`: column and row of the matrix's first element.
XLSTM_MSL ulong xlstm_matrix_offset(ulong stride, const ulong2& origin, bool transpose, uint i) {
  const uint row = xlstm_matrix_row();
  const uint column = xlstm_matrix_column() + i;
  return (origin.y + (transpose ? column : row)) * stride + origin.x + (transpose ? row : column);
}

template <class T>
XLSTM_MSL void simdgroup_load(simdgroup_matrix<T, 8, 8>& matrix, const T* memory, ulong stride = 8,
                              ulong2 origin = ulong2(0), bool transpose = false) {
  for (uint i = 0; i < 2; ++i) matrix.elements[i] = memory[xlstm_matrix_offset(stride, origin, transpose, i)];
}

template <class T>
XLSTM_MSL void simdgroup_store(const simdgroup_matrix<T, 8, 8>& matrix, T* memory, ulong stride = 8,
                               ulong2 origin = ulong2(0), bool transpose = false) {
  for (uint i = 0; i < 2; ++i) memory[xlstm_matrix_offset(stride, origin, transpose, i)] = matrix.elements[i];
}

// a · b + c of the matrices that the lanes hold. A function of its own: kernels multiply at hundreds of places.
inline __device__ __noinline__ float2 xlstm_multiply_accumulate(float2 a, float2 b, float2 sum) {
  const uint row = xlstm_matrix_row();
  const uint column = xlstm_matrix_column();
#pragma unroll
  for (uint k = 0; k < 8; ++k) {
    const float left = simd_shuffle(k % 2 == 0 ? a.x : a.y, xlstm_matrix_lane(row, k & 6));
    const uint right = xlstm_matrix_lane(k, column);
    sum.x = fma(left, simd_shuffle(b.x, right), sum.x);
    sum.y = fma(left, simd_shuffle(b.y, right), sum.y);
  }
  return sum;
}

// d = a · b + c
template <class D, class A, class B, class C>
XLSTM_MSL void simdgroup_multiply_accumulate(simdgroup_matrix<D, 8, 8>& d, const simdgroup_matrix<A, 8, 8>& a,
                                             const simdgroup_matrix<B, 8, 8>& b, const simdgroup_matrix<C, 8, 8>& c) {
  d.elements = vec<D, 2>(xlstm_multiply_accumulate(float2(a.elements), float2(b.elements), float2(c.elements)));
}

template <class D, class A, class B>
XLSTM_MSL void simdgroup_multiply(simdgroup_matrix<D, 8, 8>& d, const simdgroup_matrix<A, 8, 8>& a,
                                  const simdgroup_matrix<B, 8, 8>& b) {
  simdgroup_multiply_accumulate(d, a, b, simdgroup_matrix<float, 8, 8>(0.0F));
}

}  // namespace metal
