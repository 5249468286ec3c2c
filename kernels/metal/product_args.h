// Arguments of the matrix products in gemv.metal and gemm.metal; read by shaders (C++14) and host code.
#pragma once

namespace xlstm {
namespace shader {

enum : int {
  kProductThreads = 128,
  kProductSimds = kProductThreads / 32,
  kColumnPad = 32,   // a matrix row is filled up with zeros to a multiple of this: every vector load is aligned
  kGemvOuts = 4,     // matrix rows of a simdgroup
  kGemmRows = 64,    // a tile's rows of x
  kGemmOuts = 64,    // and of the matrix
  kGemmColumns = 32  // what a tile goes forward by along a row
};

// y = x · Wᵀ. With `gate_rows` > 0 the matrix is gate | up, of so many rows each, and
// y = SiLU(x · Wgateᵀ) ⊙ (x · Wupᵀ).
struct ProductArgs {
  int rows;       // of x and y
  int first_row;  // of x
  int in;
  int out;  // columns of y
  int gate_rows;
  int x_stride;
  int y_stride;
  int row_words;     // 32-bit words of a matrix row
  int groups;        // of scales and zeros per matrix row
  float group_step;  // kColumnPad / columns of a group; 0: one group
  int has_bias;
  int add;     // to what y holds
  float cap;   // y = cap · tanh(y / cap); 0: off
  float eps;   // of the norm
  int splits;  // simdgroups that share a matrix row (gemv): 1 or kProductSimds
};

}  // namespace shader
}  // namespace xlstm
