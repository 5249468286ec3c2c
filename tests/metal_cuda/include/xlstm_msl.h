// Stands in for Metal's headers when a shader is compiled as CUDA, after translate.py has changed its words; see
// tests/metal_cuda/compiled_kernels.h. It is written apart from the emulator's on purpose: a mistake about Metal in one
// of the two shows as a difference between them.
//
// A shader is included inside `namespace metal { namespace {`, so that Metal's types and functions hide CUDA's.
#pragma once

#include "msl/math.h"
#include "msl/matrix.h"
#include "msl/simd.h"
#include "msl/types.h"
#include "tests/metal_cuda/registration.h"

#if !defined(MAXFLOAT)
#define MAXFLOAT 3.40282346638528859812e+38F
#endif

#define XLSTM_SHARED(type, name, count) __shared__ type name[count]

// XLSTM_SHADER: the shader that is being compiled, a path below the project's root.
#define XLSTM_KERNEL(name, function)                                                                        \
  const ::xlstm::metal_cuda::Registration XLSTM_KERNEL_JOIN(xlstm_kernel_, __COUNTER__)(name, XLSTM_SHADER, \
                                                                                        XLSTM_KERNEL_ENTRY(function))
#define XLSTM_KERNEL_TEMPLATE(name, function, ...)                                       \
  const ::xlstm::metal_cuda::Registration XLSTM_KERNEL_JOIN(xlstm_kernel_, __COUNTER__)( \
      name, XLSTM_SHADER, XLSTM_KERNEL_ENTRY(function<__VA_ARGS__>))
#define XLSTM_KERNEL_ENTRY(...) ::xlstm::metal_cuda::Entry<&__VA_ARGS__>()
#define XLSTM_KERNEL_JOIN(a, b) XLSTM_KERNEL_JOIN_EXPANDED(a, b)
#define XLSTM_KERNEL_JOIN_EXPANDED(a, b) a##b

#define XLSTM_THREAD ::metal::uint3 group, ::metal::uint simd, ::metal::uint lane
