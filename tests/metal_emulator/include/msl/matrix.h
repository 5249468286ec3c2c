// 8×8 matrices spread over the lanes of a simdgroup.
//
// A lane holds the elements [row][column] and [row][column + 1] with
//   q = lane / 4,  row = (q & 4) + (lane / 2) % 4,  column = (q & 2) · 2 + (lane % 2) · 2.
#pragma once

#include "msl/runtime.h"
#include "msl/simd.h"
#include "msl/types.h"

namespace metal {

template <class T, int Columns, int Rows>
class simdgroup_matrix {
  static_assert(Columns == 8 && Rows == 8);

 public:
  simdgroup_matrix() = default;
  explicit simdgroup_matrix(T value) : elements_(value) {}
  vec<T, 2>& thread_elements() { return elements_; }
  const vec<T, 2>& thread_elements() const { return elements_; }

 private:
  vec<T, 2> elements_;
};

using simdgroup_float8x8 = simdgroup_matrix<float, 8, 8>;
using simdgroup_half8x8 = simdgroup_matrix<half, 8, 8>;
using simdgroup_bfloat8x8 = simdgroup_matrix<bfloat, 8, 8>;

template <class T, int Columns, int Rows>
simdgroup_matrix<T, Columns, Rows> make_filled_simdgroup_matrix(T value) {
  return simdgroup_matrix<T, Columns, Rows>(value);
}

inline ulong xlstm_matrix_row(unsigned lane) {
  return (lane / 4 & 4) + lane / 2 % 4;
}
inline ulong xlstm_matrix_column(unsigned lane) {
  return (lane / 4 & 2) * 2 + lane % 2 * 2;
}

// `stride`: elements from one row to the next; `origin`: column and row of the matrix's first element.
template <class T>
void simdgroup_load(simdgroup_matrix<T, 8, 8>& matrix, const T* memory, ulong stride = 8, ulong2 origin = ulong2(0),
                    bool transpose = false) {
  const unsigned lane = xlstm::emulator::current_lane();
  const ulong row = xlstm_matrix_row(lane);
  const ulong column = xlstm_matrix_column(lane);
  for (ulong i = 0; i < 2; ++i) {
    const ulong r = transpose ? column + i : row;
    const ulong c = transpose ? row : column + i;
    matrix.thread_elements()[i] = memory[(origin.y + r) * stride + origin.x + c];
  }
}

template <class T>
void simdgroup_store(const simdgroup_matrix<T, 8, 8>& matrix, T* memory, ulong stride = 8, ulong2 origin = ulong2(0),
                     bool transpose = false) {
  const unsigned lane = xlstm::emulator::current_lane();
  const ulong row = xlstm_matrix_row(lane);
  const ulong column = xlstm_matrix_column(lane);
  for (ulong i = 0; i < 2; ++i) {
    const ulong r = transpose ? column + i : row;
    const ulong c = transpose ? row : column + i;
    memory[(origin.y + r) * stride + origin.x + c] = matrix.thread_elements()[i];
  }
}

// d = a · b + c
template <class D, class A, class B, class C>
void simdgroup_multiply_accumulate(simdgroup_matrix<D, 8, 8>& d, const simdgroup_matrix<A, 8, 8>& a,
                                   const simdgroup_matrix<B, 8, 8>& b, const simdgroup_matrix<C, 8, 8>& c,
                                   int line = __builtin_LINE()) {
  using xlstm::emulator::Pair;
  const Pair result =
      xlstm::emulator::multiply_matrices(Pair{float(a.thread_elements().x), float(a.thread_elements().y)},
                                         Pair{float(b.thread_elements().x), float(b.thread_elements().y)},
                                         Pair{float(c.thread_elements().x), float(c.thread_elements().y)}, line);
  d.thread_elements().x = D(result.first);
  d.thread_elements().y = D(result.second);
}

template <class D, class A, class B>
void simdgroup_multiply(simdgroup_matrix<D, 8, 8>& d, const simdgroup_matrix<A, 8, 8>& a,
                        const simdgroup_matrix<B, 8, 8>& b, int line = __builtin_LINE()) {
  simdgroup_multiply_accumulate(d, a, b, simdgroup_matrix<float, 8, 8>(0.0F), line);
}

}  // namespace metal
