// Conversions, vectors and functions on numbers.
#include "kernels/metal/msl.h"

struct TypesArgs {
  int count;
};

template <typename T>
[[kernel]] void narrow(constant TypesArgs& args [[buffer(0)]], device const float* in [[buffer(1)]],
                       device T* out [[buffer(2)]], XLSTM_THREAD) {
  const int i = int(group.x * 32 + lane);
  if (i < args.count) out[i] = T(in[i]);
}
XLSTM_KERNEL_TEMPLATE("narrow_half", narrow, half);
XLSTM_KERNEL_TEMPLATE("narrow_bfloat", narrow, bfloat);

template <typename T>
[[kernel]] void widen(constant TypesArgs& args [[buffer(0)]], device const T* in [[buffer(1)]],
                      device float* out [[buffer(2)]], XLSTM_THREAD) {
  const int i = int(group.x * 32 + lane);
  if (i < args.count) out[i] = float(in[i]);
}
XLSTM_KERNEL_TEMPLATE("widen_half", widen, half);
XLSTM_KERNEL_TEMPLATE("widen_bfloat", widen, bfloat);

// a · b + a, rounded to T after each operation.
template <typename T>
[[kernel]] void multiply_add(constant TypesArgs& args [[buffer(0)]], device const T* a [[buffer(1)]],
                             device const T* b [[buffer(2)]], device T* out [[buffer(3)]], XLSTM_THREAD) {
  const int i = int(group.x * 32 + lane);
  if (i < args.count) out[i] = a[i] * b[i] + a[i];
}
XLSTM_KERNEL_TEMPLATE("multiply_add_half", multiply_add, half);
XLSTM_KERNEL_TEMPLATE("multiply_add_bfloat", multiply_add, bfloat);

// Each lane one value of one expression.
[[kernel]] void vectors(constant TypesArgs& args [[buffer(0)]], device const float4* in [[buffer(1)]],
                        device float* out [[buffer(2)]], XLSTM_THREAD) {
  const float4 a = in[0];
  const float4 b = in[1];
  const float2 low = float2(a.x, a.y);
  const float4 joined = float4(low, b.z, b.w);
  const uchar4 bytes = as_type<uchar4>(0x04030201u);
  const char4 codes = as_type<char4>(0xff7f8001u);
  const int4 whole = int4(a);
  float values[] = {dot(a, b),
                    (a * 2.0f + b).y,
                    (1.0f - a).z,
                    joined.z,
                    float(bytes.w),
                    float(codes.y),
                    float(codes.w),
                    float((whole << 1).w),
                    max(a, b).x,
                    clamp(a, 2.0f, 3.0f).w,
                    select(a, b, a < b).x,
                    any(a > 3.5f) ? 1.0f : 0.0f,
                    all(a > 3.5f) ? 1.0f : 0.0f,
                    as_type<float>(as_type<uint>(a.x)),
                    float(sizeof(float3)),
                    fma(a, b, a).y,
                    (-a)[2],
                    float(float4(uchar4(1, 2, 3, 4)).z)};
  if (int(lane) < args.count) out[lane] = values[lane];
}
XLSTM_KERNEL("vectors", vectors);

// One function on each value.
[[kernel]] void functions(constant TypesArgs& args [[buffer(0)]], device const float* in [[buffer(1)]],
                          device float* out [[buffer(2)]], XLSTM_THREAD) {
  const int i = int(lane);
  const float x = in[i];
  const int n = args.count;
  if (i >= n) return;
  out[i] = exp(x);
  out[n + i] = log(x);
  out[2 * n + i] = tanh(x);
  out[3 * n + i] = sqrt(x);
  out[4 * n + i] = rsqrt(x);
  out[5 * n + i] = floor(x);
  out[6 * n + i] = isnan(x) ? 1.0f : isinf(x) ? 2.0f : 0.0f;
  out[7 * n + i] = max(x, 0.0f);
  out[8 * n + i] = fabs(x);
}
XLSTM_KERNEL("functions", functions);
