// Functions of the Metal Shading Language on numbers: those of CUDA's library without fast math.
#pragma once

#include "msl/types.h"

namespace metal {

#define XLSTM_MSL_UNARY(function, of_cuda)              \
  XLSTM_MSL float function(float x) {                   \
    return ::of_cuda(x);                                \
  }                                                     \
  template <int N>                                      \
  XLSTM_MSL vec<float, N> function(vec<float, N> x) {   \
    for (int i = 0; i < N; ++i) x[i] = ::of_cuda(x[i]); \
    return x;                                           \
  }
XLSTM_MSL_UNARY(exp, expf)
XLSTM_MSL_UNARY(exp2, exp2f)
XLSTM_MSL_UNARY(log, logf)
XLSTM_MSL_UNARY(log2, log2f)
XLSTM_MSL_UNARY(tanh, tanhf)
XLSTM_MSL_UNARY(sqrt, sqrtf)
XLSTM_MSL_UNARY(rsqrt, rsqrtf)
XLSTM_MSL_UNARY(floor, floorf)
XLSTM_MSL_UNARY(ceil, ceilf)
XLSTM_MSL_UNARY(rint, rintf)
XLSTM_MSL_UNARY(round, roundf)
XLSTM_MSL_UNARY(fabs, fabsf)
XLSTM_MSL_UNARY(abs, fabsf)
#undef XLSTM_MSL_UNARY

XLSTM_MSL float pow(float x, float y) {
  return ::powf(x, y);
}
XLSTM_MSL float fma(float a, float b, float c) {
  return ::fmaf(a, b, c);
}
XLSTM_MSL bool isnan(float x) {
  return x != x;
}
XLSTM_MSL bool isinf(float x) {
  return ::fabsf(x) == INFINITY;
}
XLSTM_MSL bool isfinite(float x) {
  return ::fabsf(x) < INFINITY;
}
XLSTM_MSL int abs(int x) {
  return x < 0 ? -x : x;
}

// A NaN loses against a number.
XLSTM_MSL float min(float a, float b) {
  return ::fminf(a, b);
}
XLSTM_MSL float max(float a, float b) {
  return ::fmaxf(a, b);
}
XLSTM_MSL float fmin(float a, float b) {
  return ::fminf(a, b);
}
XLSTM_MSL float fmax(float a, float b) {
  return ::fmaxf(a, b);
}
XLSTM_MSL float clamp(float x, float low, float high) {
  return min(max(x, low), high);
}

#define XLSTM_MSL_INTEGERS(type)                      \
  XLSTM_MSL type min(type a, type b) {                \
    return b < a ? b : a;                             \
  }                                                   \
  XLSTM_MSL type max(type a, type b) {                \
    return a < b ? b : a;                             \
  }                                                   \
  XLSTM_MSL type clamp(type x, type low, type high) { \
    return min(max(x, low), high);                    \
  }
XLSTM_MSL_INTEGERS(int)
XLSTM_MSL_INTEGERS(unsigned)
XLSTM_MSL_INTEGERS(long)
XLSTM_MSL_INTEGERS(unsigned long)
#undef XLSTM_MSL_INTEGERS

template <class T>
XLSTM_MSL T select(T if_false, T if_true, bool condition) {
  return condition ? if_true : if_false;
}
template <int N>
XLSTM_MSL vec<float, N> fma(vec<float, N> a, const vec<float, N>& b, const vec<float, N>& c) {
  for (int i = 0; i < N; ++i) a[i] = fma(a[i], b[i], c[i]);
  return a;
}
template <class T, int N>
XLSTM_MSL T dot(const vec<T, N>& a, const vec<T, N>& b) {
  T sum = T(a[0] * b[0]);
  for (int i = 1; i < N; ++i) sum = T(sum + a[i] * b[i]);
  return sum;
}

}  // namespace metal
