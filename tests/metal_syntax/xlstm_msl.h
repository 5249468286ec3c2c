// Stands in for Metal's headers when clang reads a shader as OpenCL C++, whose address spaces and built-in vectors work
// as Metal's do; see scripts/check_metal_syntax.sh. Nothing runs: what OpenCL does not bring is only declared.
#pragma once

#pragma OPENCL EXTENSION cl_khr_fp16 : enable

// Not in Metal.
#pragma GCC poison double std virtual new delete try catch throw goto dynamic_cast typeid thread_local

typedef half bfloat;  // the only other type of 16 bits
typedef half2 bfloat2;
typedef half3 bfloat3;
typedef half4 bfloat4;

// translate.py turns float4(…), which is a cast in OpenCL, into xlstm_float4(…).
#define XLSTM_VECTORS(type)                        \
  type##2 xlstm_##type##2(type);                   \
  type##2 xlstm_##type##2(type, type);             \
  template <class V>                               \
  type##2 xlstm_##type##2(V other);                \
  type##3 xlstm_##type##3(type);                   \
  type##3 xlstm_##type##3(type, type, type);       \
  template <class V>                               \
  type##3 xlstm_##type##3(V other);                \
  type##4 xlstm_##type##4(type);                   \
  type##4 xlstm_##type##4(type, type, type, type); \
  type##4 xlstm_##type##4(type##2, type##2);       \
  template <class V>                               \
  type##4 xlstm_##type##4(V other);
XLSTM_VECTORS(char)
XLSTM_VECTORS(uchar)
XLSTM_VECTORS(short)
XLSTM_VECTORS(ushort)
XLSTM_VECTORS(int)
XLSTM_VECTORS(uint)
XLSTM_VECTORS(long)
XLSTM_VECTORS(ulong)
XLSTM_VECTORS(half)
XLSTM_VECTORS(float)
#undef XLSTM_VECTORS

template <class To, class From>
To as_type(From value);
template <class T>
T select(T if_false, T if_true, bool condition);
float abs(float x);

struct mem_flags {
  enum flags { mem_none = 0, mem_device = 1, mem_threadgroup = 2 };
};
mem_flags::flags operator|(mem_flags::flags a, mem_flags::flags b);
void threadgroup_barrier(mem_flags::flags flags);
void simdgroup_barrier(mem_flags::flags flags);

#define XLSTM_REDUCTION(function) \
  float function(float value);    \
  int function(int value);        \
  uint function(uint value);
XLSTM_REDUCTION(simd_sum)
XLSTM_REDUCTION(simd_max)
XLSTM_REDUCTION(simd_min)
#undef XLSTM_REDUCTION

template <class T>
T simd_broadcast_first(T value);
template <class T>
T simd_broadcast(T value, ushort lane);
template <class T>
T simd_shuffle(T value, ushort lane);
template <class T>
T simd_shuffle_xor(T value, ushort mask);
template <class T>
T simd_shuffle_down(T value, ushort distance);
template <class T>
T simd_shuffle_up(T value, ushort distance);

template <class T, int Columns, int Rows>
struct simdgroup_matrix {
  T elements[2];
};
typedef simdgroup_matrix<float, 8, 8> simdgroup_float8x8;
typedef simdgroup_matrix<half, 8, 8> simdgroup_half8x8;
typedef simdgroup_matrix<bfloat, 8, 8> simdgroup_bfloat8x8;

template <class T, int Columns, int Rows>
simdgroup_matrix<T, Columns, Rows> make_filled_simdgroup_matrix(T value);
#define XLSTM_MATRIX_MEMORY(space)                                                                          \
  template <class T>                                                                                        \
  void simdgroup_load(__private simdgroup_matrix<T, 8, 8>& matrix, space const T* memory, ulong stride = 8, \
                      ulong2 origin = (ulong2)(0), bool transpose = false);                                 \
  template <class T>                                                                                        \
  void simdgroup_store(simdgroup_matrix<T, 8, 8> matrix, space T* memory, ulong stride = 8,                 \
                       ulong2 origin = (ulong2)(0), bool transpose = false);
XLSTM_MATRIX_MEMORY(__global)
XLSTM_MATRIX_MEMORY(__local)
#undef XLSTM_MATRIX_MEMORY
template <class D, class A, class B, class C>
void simdgroup_multiply_accumulate(__private simdgroup_matrix<D, 8, 8>& d, simdgroup_matrix<A, 8, 8> a,
                                   simdgroup_matrix<B, 8, 8> b, simdgroup_matrix<C, 8, 8> c);
template <class D, class A, class B>
void simdgroup_multiply(__private simdgroup_matrix<D, 8, 8>& d, simdgroup_matrix<A, 8, 8> a,
                        simdgroup_matrix<B, 8, 8> b);

// OpenCL has such variables in kernels only, and no kernel there is a template.
template <class T, int Count>
__local T* xlstm_shared();
#define XLSTM_SHARED(type, name, count) __local type* const name = xlstm_shared<type, (count)>()

// Compiles the template with these arguments.
#define XLSTM_KERNEL(name, function) static_assert(sizeof(name "") > 1, "a kernel without a name")
#define XLSTM_KERNEL_TEMPLATE(name, function, ...) template decltype(function<__VA_ARGS__>) function<__VA_ARGS__>

#define XLSTM_THREAD uint3 group, uint simd, uint lane
