// Matrices of a simdgroup, and where their elements are.
#include "kernels/metal/msl.h"

struct MatrixArgs {
  int stride;
  int column;
  int row;
  int transpose;
};

template <typename T>
[[kernel]] void copy_matrix(constant MatrixArgs& args [[buffer(0)]], device const T* in [[buffer(1)]],
                            device T* out [[buffer(2)]], XLSTM_THREAD) {
  simdgroup_matrix<T, 8, 8> matrix;
  simdgroup_load(matrix, in, ulong(args.stride), ulong2(ulong(args.column), ulong(args.row)), args.transpose != 0);
  simdgroup_store(matrix, out, 8);
}
XLSTM_KERNEL_TEMPLATE("copy_matrix_float", copy_matrix, float);
XLSTM_KERNEL_TEMPLATE("copy_matrix_half", copy_matrix, half);
XLSTM_KERNEL_TEMPLATE("copy_matrix_bfloat", copy_matrix, bfloat);

[[kernel]] void store_matrix(constant MatrixArgs& args [[buffer(0)]], device const float* in [[buffer(1)]],
                             device float* out [[buffer(2)]], XLSTM_THREAD) {
  simdgroup_float8x8 matrix;
  simdgroup_load(matrix, in, 8);
  simdgroup_store(matrix, out, ulong(args.stride), ulong2(ulong(args.column), ulong(args.row)), args.transpose != 0);
}
XLSTM_KERNEL("store_matrix", store_matrix);

// out = a · b + c with elements of a and b of type T.
template <typename T>
[[kernel]] void multiply_matrix(constant MatrixArgs& args [[buffer(0)]], device const T* a [[buffer(1)]],
                                device const T* b [[buffer(2)]], device const float* c [[buffer(3)]],
                                device float* out [[buffer(4)]], XLSTM_THREAD) {
  simdgroup_matrix<T, 8, 8> left;
  simdgroup_matrix<T, 8, 8> right;
  simdgroup_float8x8 sum;
  simdgroup_load(left, a, 8);
  simdgroup_load(right, b, 8);
  simdgroup_load(sum, c, ulong(args.stride));
  simdgroup_multiply_accumulate(sum, left, right, sum);
  simdgroup_store(sum, out, 8);
}
XLSTM_KERNEL_TEMPLATE("multiply_matrix_float", multiply_matrix, float);
XLSTM_KERNEL_TEMPLATE("multiply_matrix_half", multiply_matrix, half);
XLSTM_KERNEL_TEMPLATE("multiply_matrix_bfloat", multiply_matrix, bfloat);

// What each lane holds: its two elements, [32, 2].
[[kernel]] void lanes_of_matrix(constant MatrixArgs& args [[buffer(0)]], device const float* in [[buffer(1)]],
                                device float* out [[buffer(2)]], XLSTM_THREAD) {
  simdgroup_float8x8 matrix = make_filled_simdgroup_matrix<float, 8, 8>(-1.0f);
  simdgroup_load(matrix, in, ulong(args.stride));
  out[lane * 2] = matrix.thread_elements()[0];
  out[lane * 2 + 1] = matrix.thread_elements()[1];
}
XLSTM_KERNEL("lanes_of_matrix", lanes_of_matrix);
