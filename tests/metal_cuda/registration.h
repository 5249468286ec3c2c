// Puts the kernels of a shader into the list of compiled kernels. For CUDA sources.
#pragma once

#include <type_traits>
#include <utility>

#include "msl/types.h"
#include "tests/metal_cuda/compiled_kernels.h"

namespace xlstm::metal_cuda {

// A parameter of a kernel, from its buffer or (the last three) from the thread's place.
template <class P, size_t I, size_t Count>
__device__ __forceinline__ P argument(const Buffers& buffers) {
  if constexpr (I + 3 == Count) {
    return metal::uint3(blockIdx.x, blockIdx.y, blockIdx.z);
  } else if constexpr (I + 2 == Count) {
    return threadIdx.x / 32;
  } else if constexpr (I + 1 == Count) {
    return threadIdx.x % 32;
  } else if constexpr (std::is_reference_v<P>) {
    return *static_cast<std::remove_reference_t<P>*>(buffers.at[I]);
  } else {
    return static_cast<P>(buffers.at[I]);
  }
}

template <auto kFunction, class... Parameters, size_t... I>
__device__ __forceinline__ void call(void (*)(Parameters...), const Buffers& buffers, std::index_sequence<I...>) {
  kFunction(argument<Parameters, I, sizeof...(Parameters)>(buffers)...);
}

template <auto kFunction, class... Parameters>
__device__ __forceinline__ void call(void (*type)(Parameters...), const Buffers& buffers) {
  call<kFunction>(type, buffers, std::make_index_sequence<sizeof...(Parameters)>());
}

template <auto kFunction>
__global__ void metal_kernel(Buffers buffers) {
  call<kFunction>(decltype(kFunction)(nullptr), buffers);
}

template <auto kFunction>
struct Entry {};

// Registers a kernel for the life of the program.
class Registration {
 public:
  template <auto kFunction>
  Registration(const char* name, const char* shader, Entry<kFunction>) {
    CompiledKernel kernel{name, shader, reinterpret_cast<const void*>(&metal_kernel<kFunction>), {}};
    describe(kernel, decltype(kFunction)(nullptr));
    add_kernel(std::move(kernel));
  }

 private:
  template <class... Parameters>
  static void describe(CompiledKernel& kernel, void (*)(Parameters...)) {
    kernel.parameters = {Parameter{
        std::is_reference_v<Parameters>,
        !std::is_const_v<std::remove_pointer_t<std::remove_reference_t<Parameters>>>,
        sizeof(std::remove_pointer_t<std::remove_reference_t<Parameters>>),
    }...};
    kernel.parameters.resize(kernel.parameters.size() - 3);
  }
};

}  // namespace xlstm::metal_cuda
