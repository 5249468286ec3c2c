// Scalars and vectors of the Metal Shading Language, for device code.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstring>
#include <type_traits>

#define XLSTM_MSL __device__ __forceinline__

namespace metal {

using uchar = unsigned char;
using ushort = unsigned short;
using uint = unsigned int;
using ulong = unsigned long;
using size_t = decltype(sizeof(0));

// 16-bit floats. As with the other compilers of the shaders, only the way to float needs no cast.
class half {
 public:
  half() = default;
  template <class T, std::enable_if_t<std::is_arithmetic_v<T>, int> = 0>
  XLSTM_MSL explicit half(T value) : bits_(__half_as_ushort(__float2half_rn(float(value)))) {}
  XLSTM_MSL operator float() const { return __half2float(__ushort_as_half(bits_)); }

 private:
  ushort bits_;
};

class bfloat {
 public:
  bfloat() = default;
  template <class T, std::enable_if_t<std::is_arithmetic_v<T>, int> = 0>
  XLSTM_MSL explicit bfloat(T value) : bits_(__bfloat16_as_ushort(__float2bfloat16_rn(float(value)))) {}
  XLSTM_MSL operator float() const { return __bfloat162float(__ushort_as_bfloat16(bits_)); }

 private:
  ushort bits_;
};

template <class T, int N>
struct vec;

// What vectors of all lengths have. Scalars turn into vectors by themselves, as in Metal.
#define XLSTM_MSL_ARITHMETIC(op)                               \
  friend XLSTM_MSL vec operator op(vec a, const vec& b) {      \
    for (int i = 0; i < kSize; ++i) a[i] = T(a[i] op b[i]);    \
    return a;                                                  \
  }                                                            \
  friend XLSTM_MSL vec& operator op##=(vec& a, const vec& b) { \
    return a = a op b;                                         \
  }
#define XLSTM_MSL_VECTOR                                      \
  vec() = default;                                            \
  XLSTM_MSL vec(T value) {                                    \
    for (int i = 0; i < kSize; ++i) (*this)[i] = value;       \
  }                                                           \
  template <class S>                                          \
  XLSTM_MSL explicit vec(const vec<S, kSize>& other) {        \
    for (int i = 0; i < kSize; ++i) (*this)[i] = T(other[i]); \
  }                                                           \
  XLSTM_MSL T& operator[](int i) {                            \
    return (&x)[i];                                           \
  }                                                           \
  XLSTM_MSL const T& operator[](int i) const {                \
    return (&x)[i];                                           \
  }                                                           \
  XLSTM_MSL_ARITHMETIC(+)                                     \
  XLSTM_MSL_ARITHMETIC(-)                                     \
  XLSTM_MSL_ARITHMETIC(*)                                     \
  XLSTM_MSL_ARITHMETIC(/)                                     \
  XLSTM_MSL_ARITHMETIC(%)                                     \
  XLSTM_MSL_ARITHMETIC(&)                                     \
  XLSTM_MSL_ARITHMETIC(|)                                     \
  XLSTM_MSL_ARITHMETIC(^)                                     \
  XLSTM_MSL_ARITHMETIC(<<)                                    \
  XLSTM_MSL_ARITHMETIC(>>)                                    \
  friend XLSTM_MSL vec operator-(vec a) {                     \
    for (int i = 0; i < kSize; ++i) a[i] = T(-a[i]);          \
    return a;                                                 \
  }

template <class T>
struct alignas(2 * sizeof(T)) vec<T, 2> {
  static constexpr int kSize = 2;
  T x, y;
  XLSTM_MSL vec(T x_, T y_) : x(x_), y(y_) {}
  XLSTM_MSL_VECTOR
};

template <class T>
struct alignas(4 * sizeof(T)) vec<T, 3> {
  static constexpr int kSize = 3;
  T x, y, z;
  XLSTM_MSL vec(T x_, T y_, T z_) : x(x_), y(y_), z(z_) {}
  XLSTM_MSL_VECTOR
};

template <class T>
struct alignas(4 * sizeof(T)) vec<T, 4> {
  static constexpr int kSize = 4;
  T x, y, z, w;
  XLSTM_MSL vec(T x_, T y_, T z_, T w_) : x(x_), y(y_), z(z_), w(w_) {}
  XLSTM_MSL vec(const vec<T, 2>& a, const vec<T, 2>& b) : vec(a.x, a.y, b.x, b.y) {}
  XLSTM_MSL_VECTOR
};
#undef XLSTM_MSL_VECTOR
#undef XLSTM_MSL_ARITHMETIC

#define XLSTM_MSL_VECTORS(type, name) \
  using name##2 = vec<type, 2>;       \
  using name##3 = vec<type, 3>;       \
  using name##4 = vec<type, 4>;
XLSTM_MSL_VECTORS(signed char, char)
XLSTM_MSL_VECTORS(unsigned char, uchar)
XLSTM_MSL_VECTORS(short, short)
XLSTM_MSL_VECTORS(unsigned short, ushort)
XLSTM_MSL_VECTORS(int, int)
XLSTM_MSL_VECTORS(unsigned int, uint)
XLSTM_MSL_VECTORS(long, long)
XLSTM_MSL_VECTORS(unsigned long, ulong)
XLSTM_MSL_VECTORS(float, float)
XLSTM_MSL_VECTORS(half, half)
XLSTM_MSL_VECTORS(bfloat, bfloat)
#undef XLSTM_MSL_VECTORS

template <class To, class From>
XLSTM_MSL To as_type(const From& value) {
  static_assert(sizeof(To) == sizeof(From));
  To result;
  memcpy(&result, &value, sizeof(To));
  return result;
}

}  // namespace metal
