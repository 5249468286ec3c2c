// Arguments of the kernels in sampling.metal; read by shaders (C++14) and host code.
#pragma once

namespace xlstm {
namespace shader {

enum : int {
  kSamplingThreads = 128,
  kSamplingSimds = kSamplingThreads / 32,
  kSamplingBlock = 1024,  // logits of a threadgroup
  kFewCandidates = 64,    // what the kernels keep of a block: the template parameter kRun
  kMostCandidates = 256
};

struct GreatestArgs {
  int vocab;       // logits of a row that count
  int row_stride;  // of the logits
  int blocks;      // of a row
  int count;       // candidates of a row, at most kRun
};

}  // namespace shader
}  // namespace xlstm
