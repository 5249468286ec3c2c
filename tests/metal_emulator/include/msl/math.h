// Functions of the Metal Shading Language on numbers, all in float.
#pragma once

#include <algorithm>
#include <cmath>

#include "msl/types.h"

namespace metal {

inline float exp(float x) {
  return std::exp(x);
}
inline float exp2(float x) {
  return std::exp2(x);
}
inline float log(float x) {
  return std::log(x);
}
inline float log2(float x) {
  return std::log2(x);
}
inline float tanh(float x) {
  return std::tanh(x);
}
inline float sqrt(float x) {
  return std::sqrt(x);
}
inline float rsqrt(float x) {
  return 1.0F / std::sqrt(x);
}
inline float sin(float x) {
  return std::sin(x);
}
inline float cos(float x) {
  return std::cos(x);
}
inline float floor(float x) {
  return std::floor(x);
}
inline float ceil(float x) {
  return std::ceil(x);
}
inline float trunc(float x) {
  return std::trunc(x);
}
inline float rint(float x) {
  return std::rint(x);
}
inline float round(float x) {
  return std::round(x);
}
inline float fabs(float x) {
  return std::fabs(x);
}
inline float pow(float x, float y) {
  return std::pow(x, y);
}
inline float fmod(float x, float y) {
  return std::fmod(x, y);
}
inline float copysign(float x, float y) {
  return std::copysign(x, y);
}
inline float fma(float a, float b, float c) {
  return std::fma(a, b, c);
}
inline bool isnan(float x) {
  return std::isnan(x);
}
inline bool isinf(float x) {
  return std::isinf(x);
}
inline bool isfinite(float x) {
  return std::isfinite(x);
}

// A NaN loses against a number.
inline float fmin(float a, float b) {
  return std::fmin(a, b);
}
inline float fmax(float a, float b) {
  return std::fmax(a, b);
}
inline float min(float a, float b) {
  return std::fmin(a, b);
}
inline float max(float a, float b) {
  return std::fmax(a, b);
}
inline float abs(float x) {
  return std::fabs(x);
}
inline int abs(int x) {
  return x < 0 ? -x : x;
}
inline float clamp(float x, float low, float high) {
  return min(max(x, low), high);
}

#define XLSTM_MSL_INTEGERS(type)                   \
  inline type min(type a, type b) {                \
    return std::min(a, b);                         \
  }                                                \
  inline type max(type a, type b) {                \
    return std::max(a, b);                         \
  }                                                \
  inline type clamp(type x, type low, type high) { \
    return min(max(x, low), high);                 \
  }
XLSTM_MSL_INTEGERS(int)
XLSTM_MSL_INTEGERS(unsigned)
XLSTM_MSL_INTEGERS(long)
XLSTM_MSL_INTEGERS(unsigned long)
#undef XLSTM_MSL_INTEGERS

template <class T>
T select(T if_false, T if_true, bool condition) {
  return condition ? if_true : if_false;
}
template <class T, int N>
vec<T, N> select(const vec<T, N>& if_false, const vec<T, N>& if_true, const vec<bool, N>& condition) {
  vec<T, N> result;
  for (int i = 0; i < N; ++i) result.elements[i] = condition.elements[i] ? if_true.elements[i] : if_false.elements[i];
  return result;
}
template <int N>
bool any(const vec<bool, N>& x) {
  return std::any_of(x.elements, x.elements + N, [](bool b) { return b; });
}
template <int N>
bool all(const vec<bool, N>& x) {
  return std::all_of(x.elements, x.elements + N, [](bool b) { return b; });
}

#define XLSTM_MSL_UNARY(function)                                             \
  template <int N>                                                            \
  vec<float, N> function(const vec<float, N>& x) {                            \
    vec<float, N> result;                                                     \
    for (int i = 0; i < N; ++i) result.elements[i] = function(x.elements[i]); \
    return result;                                                            \
  }
XLSTM_MSL_UNARY(exp)
XLSTM_MSL_UNARY(log)
XLSTM_MSL_UNARY(tanh)
XLSTM_MSL_UNARY(sqrt)
XLSTM_MSL_UNARY(rsqrt)
XLSTM_MSL_UNARY(floor)
XLSTM_MSL_UNARY(rint)
XLSTM_MSL_UNARY(round)
XLSTM_MSL_UNARY(fabs)
XLSTM_MSL_UNARY(abs)
#undef XLSTM_MSL_UNARY

#define XLSTM_MSL_BINARY(function)                                                           \
  template <class T, int N>                                                                  \
  vec<T, N> function(const vec<T, N>& a, const vec<T, N>& b) {                               \
    vec<T, N> result;                                                                        \
    for (int i = 0; i < N; ++i) result.elements[i] = function(a.elements[i], b.elements[i]); \
    return result;                                                                           \
  }                                                                                          \
  template <class T, int N>                                                                  \
  vec<T, N> function(const vec<T, N>& a, std::type_identity_t<T> b) {                        \
    return function(a, vec<T, N>(b));                                                        \
  }
XLSTM_MSL_BINARY(min)
XLSTM_MSL_BINARY(max)
#undef XLSTM_MSL_BINARY

template <class T, int N>
vec<T, N> clamp(const vec<T, N>& x, const vec<T, N>& low, const vec<T, N>& high) {
  return min(max(x, low), high);
}
template <class T, int N>
vec<T, N> clamp(const vec<T, N>& x, std::type_identity_t<T> low, std::type_identity_t<T> high) {
  return clamp(x, vec<T, N>(low), vec<T, N>(high));
}
template <int N>
vec<float, N> fma(const vec<float, N>& a, const vec<float, N>& b, const vec<float, N>& c) {
  vec<float, N> result;
  for (int i = 0; i < N; ++i) result.elements[i] = fma(a.elements[i], b.elements[i], c.elements[i]);
  return result;
}
template <class T, int N>
T dot(const vec<T, N>& a, const vec<T, N>& b) {
  T sum = T(a.elements[0] * b.elements[0]);
  for (int i = 1; i < N; ++i) sum = T(sum + a.elements[i] * b.elements[i]);
  return sum;
}

namespace precise {
using metal::cos;
using metal::exp;
using metal::exp2;
using metal::log;
using metal::log2;
using metal::pow;
using metal::rsqrt;
using metal::sin;
using metal::sqrt;
using metal::tanh;
}  // namespace precise

}  // namespace metal
