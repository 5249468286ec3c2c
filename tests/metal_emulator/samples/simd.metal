// One kernel for each function of a simdgroup.
#include "kernels/metal/msl.h"

struct SimdArgs {
  int op;
  int lanes;
};

float apply(int op, float value, uint lanes) {
  switch (op) {
    case 0: return simd_sum(value);
    case 1: return simd_max(value);
    case 2: return simd_min(value);
    case 3: return simd_broadcast(value, lanes);
    case 4: return simd_broadcast_first(value);
    case 5: return simd_shuffle(value, lanes);
    case 6: return simd_shuffle_xor(value, lanes);
    case 7: return simd_shuffle_down(value, lanes);
    default: return simd_shuffle_up(value, lanes);
  }
}

[[kernel]] void simd_float(constant SimdArgs& args [[buffer(0)]], device const float* in [[buffer(1)]],
                           device float* out [[buffer(2)]], XLSTM_THREAD) {
  const uint i = (group.x * 2 + simd) * 32 + lane;
  out[i] = apply(args.op, in[i], uint(args.lanes));
}
XLSTM_KERNEL("simd_float", simd_float);

// Lane i gets the value of lane args.lanes · i modulo 32.
template <typename T>
[[kernel]] void permute(constant SimdArgs& args [[buffer(0)]], device const T* in [[buffer(1)]],
                        device T* out [[buffer(2)]], XLSTM_THREAD) {
  const uint i = (group.x * 2 + simd) * 32 + lane;
  out[i] = simd_shuffle(in[i], (lane * uint(args.lanes)) % 32);
}
XLSTM_KERNEL_TEMPLATE("permute_float", permute, float);
XLSTM_KERNEL_TEMPLATE("permute_half", permute, half);
XLSTM_KERNEL_TEMPLATE("permute_float4", permute, float4);
XLSTM_KERNEL_TEMPLATE("permute_uchar", permute, uchar);

template <typename T>
[[kernel]] void reduce(constant SimdArgs& args [[buffer(0)]], device const T* in [[buffer(1)]],
                       device T* out [[buffer(2)]], XLSTM_THREAD) {
  const uint i = (group.x * 2 + simd) * 32 + lane;
  const T value = in[i];
  const T sum = simd_sum(value);
  const T largest = simd_max(value);
  const T least = simd_min(value);
  out[i] = args.op == 0 ? sum : args.op == 1 ? largest : least;
}
XLSTM_KERNEL_TEMPLATE("reduce_float", reduce, float);
XLSTM_KERNEL_TEMPLATE("reduce_int", reduce, int);
XLSTM_KERNEL_TEMPLATE("reduce_uint", reduce, uint);
