// The Metal Shading Language as these shaders use it. The first include of every .metal file.
//
// Besides Apple's compiler two others read the shaders: tests/metal_emulator runs them as C++ on the CPU, and
// scripts/check_metal_cuda.sh as CUDA on an NVIDIA GPU. Both bring an <xlstm_msl.h> that stands in for Metal's headers.
// So that all three agree, a kernel keeps to these rules:
//   - Parameters, in this order: `constant A& args [[buffer(0)]]`, device pointers [[buffer(1)]], [[buffer(2)]], …,
//     then XLSTM_THREAD. Threadgroups are one-dimensional, a multiple of 32 threads, and always full.
//   - Threadgroup memory is declared by XLSTM_SHARED in the kernel function and handed on as a pointer.
//   - Every kernel is named by XLSTM_KERNEL, which host code finds it by.
//   - Every thread of a threadgroup reaches every threadgroup_barrier, every lane of a simdgroup every simd_ function.
//   - Argument structs hold only 4-byte members and stand in a header that the host includes too.
//   - Float arithmetic is safe math: infinities and NaN behave as in IEEE 754.
#pragma once

#if defined(__METAL_VERSION__)

#include <metal_simdgroup_matrix>
#include <metal_stdlib>
using namespace metal;

// Memory of `count` values that the threads of a threadgroup share; undefined at first.
#define XLSTM_SHARED(type, name, count) threadgroup type name[count]

// Makes a kernel known by `name`: for a plain function its own name, for a template that of the instance with the
// arguments behind it.
#define XLSTM_KERNEL(name, function) static_assert(true, name)
#define XLSTM_KERNEL_TEMPLATE(name, function, ...) \
  template [[host_name(name)]] [[kernel]] decltype(function<__VA_ARGS__>) function<__VA_ARGS__>

// Where a thread stands: its threadgroup in the grid of threadgroups, its simdgroup in that, its lane in that.
#define XLSTM_THREAD                                                                          \
  uint3 group [[threadgroup_position_in_grid]], uint simd [[simdgroup_index_in_threadgroup]], \
      uint lane [[thread_index_in_simdgroup]]

#else

#include <xlstm_msl.h>

#endif

// Arrays of registers must not be indexed at run time: loops over them are unrolled.
#if defined(__METAL_VERSION__)
#define XLSTM_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__CUDACC__)
#define XLSTM_UNROLL _Pragma("unroll")
#else
#define XLSTM_UNROLL
#endif
