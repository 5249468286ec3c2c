// Stands in for Metal's headers when a shader is compiled as C++; see tests/metal_emulator/emulator.h.
//
// A shader is included inside `namespace metal { namespace {`, so that Metal's functions hide those that C declares
// globally, and so that two shaders may define different things by one name.
#pragma once

#include <cfloat>

#include "msl/kernel.h"
#include "msl/math.h"
#include "msl/matrix.h"
#include "msl/runtime.h"
#include "msl/simd.h"
#include "msl/types.h"

// After the last standard header: these words mean other things there.
#define device
#define threadgroup
#define thread
#define constant const

#if !defined(MAXFLOAT)
#define MAXFLOAT FLT_MAX
#endif
#define M_PI_F 3.14159265358979323846F
#define M_LOG2E_F 1.44269504088896340736F
#define M_LN2_F 0.69314718055994530942F

#define XLSTM_SHARED(type, name, count)              \
  type(&name)[count] = *static_cast<type(*)[count]>( \
      ::xlstm::emulator::shared_memory({sizeof(type[count]), ::metal::xlstm_element_bytes<type>(), #name, __LINE__}))

#define XLSTM_KERNEL(name, function)                                                                             \
  const ::xlstm::emulator::Registration XLSTM_KERNEL_JOIN(xlstm_kernel_, __COUNTER__)(name, #function, __FILE__, \
                                                                                      &function)
#define XLSTM_KERNEL_TEMPLATE(name, function, ...)                                                               \
  const ::xlstm::emulator::Registration XLSTM_KERNEL_JOIN(xlstm_kernel_, __COUNTER__)(name, #function, __FILE__, \
                                                                                      &function<__VA_ARGS__>)
#define XLSTM_KERNEL_JOIN(a, b) XLSTM_KERNEL_JOIN_EXPANDED(a, b)
#define XLSTM_KERNEL_JOIN_EXPANDED(a, b) a##b

#define XLSTM_THREAD ::metal::uint3 group, ::metal::uint simd, ::metal::uint lane
