// Scalars and vectors of the Metal Shading Language.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace metal {

using uchar = unsigned char;
using ushort = unsigned short;
using uint = unsigned int;
using ulong = unsigned long;
using std::size_t;

// A 16-bit float: rounds to nearest, ties to even. Converts to float by itself and from float only when asked to, which
// is what every compiler of the shaders accepts.
template <class Format>
class Float16 {
 public:
  Float16() = default;
  template <class T, std::enable_if_t<std::is_arithmetic_v<T>, int> = 0>
  explicit Float16(T value) : bits_(Format::narrow(static_cast<float>(value))) {}
  template <class Other>
  explicit Float16(Float16<Other> value) : Float16(static_cast<float>(value)) {}

  operator float() const { return Format::widen(bits_); }

  friend Float16 operator+(Float16 a, Float16 b) { return Float16(float(a) + float(b)); }
  friend Float16 operator-(Float16 a, Float16 b) { return Float16(float(a) - float(b)); }
  friend Float16 operator*(Float16 a, Float16 b) { return Float16(float(a) * float(b)); }
  friend Float16 operator/(Float16 a, Float16 b) { return Float16(float(a) / float(b)); }
  friend Float16 operator-(Float16 a) { return Float16(-float(a)); }
  Float16& operator+=(Float16 b) { return *this = *this + b; }
  Float16& operator-=(Float16 b) { return *this = *this - b; }
  Float16& operator*=(Float16 b) { return *this = *this * b; }
  Float16& operator/=(Float16 b) { return *this = *this / b; }

 private:
  uint16_t bits_;
};

struct BinaryHalf {
  static float widen(uint16_t bits) {
    const uint32_t magnitude = (bits & 0x7fffU) << 13;
    // As a float of that pattern the value is 2^112 too small; infinity and NaN need the largest exponent.
    float value = std::bit_cast<float>(magnitude) * 0x1p112F;
    if (magnitude >= 0x0f800000U) value = std::bit_cast<float>(magnitude | 0x7f800000U);
    return std::bit_cast<float>(std::bit_cast<uint32_t>(value) | (bits & 0x8000U) << 16);
  }
  static uint16_t narrow(float value) {
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    const uint32_t sign = bits >> 16 & 0x8000U;
    const uint32_t magnitude = bits & 0x7fffffffU;
    if (magnitude > 0x7f800000U) return static_cast<uint16_t>(sign | 0x7e00U | (magnitude >> 13 & 0x3ffU));
    if (magnitude >= 0x477ff000U) return static_cast<uint16_t>(sign | 0x7c00U);  // rounds to 65536 or more
    if (magnitude < 0x38800000U) {
      // Below the smallest normal half: adding 0.5 leaves the result's bits, rounded, at the end of the sum.
      const float sum = std::bit_cast<float>(magnitude) + 0.5F;
      return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(sum) - 0x3f000000U));
    }
    const uint32_t rounded = magnitude - 0x38000000U + 0xfffU + (magnitude >> 13 & 1U);
    return static_cast<uint16_t>(sign | rounded >> 13);
  }
};

struct BrainFloat {
  static float widen(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }
  static uint16_t narrow(float value) {
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    if ((bits & 0x7fffffffU) > 0x7f800000U) return static_cast<uint16_t>(bits >> 16 | 0x40U);
    return static_cast<uint16_t>((bits + 0x7fffU + (bits >> 16 & 1U)) >> 16);
  }
};

using half = Float16<BinaryHalf>;
using bfloat = Float16<BrainFloat>;

template <class T>
inline constexpr bool is_scalar_v = std::is_arithmetic_v<T> || std::is_same_v<T, half> || std::is_same_v<T, bfloat>;

template <class T, int N>
struct VecElements;

template <class T>
struct alignas(2 * sizeof(T)) VecElements<T, 2> {
  union {
    __extension__ struct { T x, y; };
    T elements[2];
  };
};

template <class T>
struct alignas(4 * sizeof(T)) VecElements<T, 3> {
  union {
    __extension__ struct { T x, y, z; };
    T elements[3];
  };
};

template <class T>
struct alignas(4 * sizeof(T)) VecElements<T, 4> {
  union {
    __extension__ struct { T x, y, z, w; };
    T elements[4];
  };
};

template <class T, int N>
struct vec : VecElements<T, N> {
  using VecElements<T, N>::elements;

  vec() = default;
  template <class S, std::enable_if_t<is_scalar_v<S>, int> = 0>
  vec(S value) {
    for (int i = 0; i < N; ++i) elements[i] = T(value);
  }
  template <class S, std::enable_if_t<!std::is_same_v<S, T>, int> = 0>
  explicit vec(const vec<S, N>& other) {
    for (int i = 0; i < N; ++i) elements[i] = T(other.elements[i]);
  }
  // Scalars and shorter vectors, N elements in all.
  template <class A, class B, class... Rest>
  vec(const A& a, const B& b, const Rest&... rest) {
    int at = 0;
    (append(at, a), append(at, b), (append(at, rest), ...));
    static_assert(count<A>() + count<B>() + (count<Rest>() + ... + 0) == N);
  }

  T& operator[](size_t i) { return elements[i]; }
  const T& operator[](size_t i) const { return elements[i]; }

 private:
  template <class A>
  static constexpr int count() {
    if constexpr (is_scalar_v<A>) {
      return 1;
    } else {
      return static_cast<int>(sizeof(A::elements) / sizeof(A::elements[0]));
    }
  }
  template <class A>
  void append(int& at, const A& value) {
    if constexpr (is_scalar_v<A>) {
      elements[at++] = T(value);
    } else {
      for (const auto& element : value.elements) elements[at++] = T(element);
    }
  }
};

#define XLSTM_MSL_OPERATOR(op)                                                          \
  template <class T, int N>                                                             \
  vec<T, N> operator op(const vec<T, N>& a, const vec<T, N>& b) {                       \
    vec<T, N> result;                                                                   \
    for (int i = 0; i < N; ++i) result.elements[i] = T(a.elements[i] op b.elements[i]); \
    return result;                                                                      \
  }                                                                                     \
  template <class T, int N, class S, std::enable_if_t<is_scalar_v<S>, int> = 0>         \
  vec<T, N> operator op(const vec<T, N>& a, S b) {                                      \
    return a op vec<T, N>(b);                                                           \
  }                                                                                     \
  template <class T, int N, class S, std::enable_if_t<is_scalar_v<S>, int> = 0>         \
  vec<T, N> operator op(S a, const vec<T, N>& b) {                                      \
    return vec<T, N>(a) op b;                                                           \
  }                                                                                     \
  template <class T, int N, class B>                                                    \
  vec<T, N>& operator op##=(vec<T, N>& a, const B& b) {                                 \
    return a = a op b;                                                                  \
  }
XLSTM_MSL_OPERATOR(+)
XLSTM_MSL_OPERATOR(-)
XLSTM_MSL_OPERATOR(*)
XLSTM_MSL_OPERATOR(/)
XLSTM_MSL_OPERATOR(%)
XLSTM_MSL_OPERATOR(&)
XLSTM_MSL_OPERATOR(|)
XLSTM_MSL_OPERATOR(^)
XLSTM_MSL_OPERATOR(<<)
XLSTM_MSL_OPERATOR(>>)
#undef XLSTM_MSL_OPERATOR

#define XLSTM_MSL_COMPARISON(op)                                                     \
  template <class T, int N>                                                          \
  vec<bool, N> operator op(const vec<T, N>& a, const vec<T, N>& b) {                 \
    vec<bool, N> result;                                                             \
    for (int i = 0; i < N; ++i) result.elements[i] = a.elements[i] op b.elements[i]; \
    return result;                                                                   \
  }                                                                                  \
  template <class T, int N, class S, std::enable_if_t<is_scalar_v<S>, int> = 0>      \
  vec<bool, N> operator op(const vec<T, N>& a, S b) {                                \
    return a op vec<T, N>(b);                                                        \
  }
XLSTM_MSL_COMPARISON(==)
XLSTM_MSL_COMPARISON(!=)
XLSTM_MSL_COMPARISON(<)
XLSTM_MSL_COMPARISON(<=)
XLSTM_MSL_COMPARISON(>)
XLSTM_MSL_COMPARISON(>=)
#undef XLSTM_MSL_COMPARISON

template <class T, int N>
vec<T, N> operator-(const vec<T, N>& a) {
  vec<T, N> result;
  for (int i = 0; i < N; ++i) result.elements[i] = T(-a.elements[i]);
  return result;
}

#define XLSTM_MSL_VECTORS(type, name) \
  using name##2 = vec<type, 2>;       \
  using name##3 = vec<type, 3>;       \
  using name##4 = vec<type, 4>;
XLSTM_MSL_VECTORS(bool, bool)
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

// Of the scalars that T consists of.
template <class T>
constexpr size_t xlstm_element_bytes() {
  if constexpr (std::is_class_v<T> && !is_scalar_v<T>) {
    return sizeof(T::elements[0]);
  } else {
    return sizeof(T);
  }
}

template <class To, class From>
To as_type(const From& value) {
  return std::bit_cast<To>(value);
}

}  // namespace metal
