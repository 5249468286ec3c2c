// Arguments of the kernels in rows.metal; read by shaders (C++14) and host code.
#pragma once

namespace xlstm {
namespace shader {

enum : int { kRowThreads = 128, kRowSimds = kRowThreads / 32, kMostIds = 1000 };

struct EmbedArgs {
  int width;
  int first_row;  // of the output
  int ids[kMostIds];
};

struct RmsNormArgs {
  int width;
  int first_row;  // of x
  int has_bias;
  float eps;
};

struct HeadNormArgs {
  int head_dim;
  int h_stride;
  int o_stride;
  int y_stride;
  int has_bias;
  float eps;
};

}  // namespace shader
}  // namespace xlstm
