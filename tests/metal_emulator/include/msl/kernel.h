// The list of compiled kernels.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "msl/types.h"

namespace xlstm::emulator {

// A parameter that a buffer is bound to: the i-th parameter is [[buffer(i)]].
struct Parameter {
  bool is_reference = false;
  bool is_writable = false;
  size_t bytes = 0;  // of what it refers to
  size_t alignment = 1;
  size_t element_bytes = 1;  // of the scalars that a pointer's values consist of, at most 4
};

struct CompiledKernel {
  using Function = void (*)();  // the kernel, its type set aside
  std::string name;             // for host code
  std::string source_name;      // of the function or template
  std::string file;
  Function function = nullptr;
  void (*run)(Function function, void* const* buffers, const metal::uint3& group, unsigned simd,
              unsigned lane) = nullptr;
  std::vector<Parameter> parameters;
};

// Registers a kernel for the life of the program.
class Registration {
 public:
  template <class... Parameters>
  Registration(const char* name, const char* source_name, const char* file, void (*function)(Parameters...)) {
    constexpr size_t kBuffers = sizeof...(Parameters) - 3;
    CompiledKernel kernel;
    kernel.name = name;
    kernel.source_name = source_name;
    kernel.file = file;
    kernel.function = reinterpret_cast<CompiledKernel::Function>(function);
    kernel.run = &run<Parameters...>;
    kernel.parameters = {describe<Parameters>()...};
    kernel.parameters.resize(kBuffers);
    add(std::move(kernel));
  }

 private:
  static void add(CompiledKernel kernel);

  template <class P>
  static Parameter describe() {
    using Pointee = std::remove_pointer_t<std::remove_reference_t<P>>;
    Parameter parameter{std::is_reference_v<P>, !std::is_const_v<Pointee>, sizeof(Pointee), alignof(Pointee)};
    if constexpr (std::is_pointer_v<P>) {
      parameter.element_bytes = std::min<size_t>(4, metal::xlstm_element_bytes<std::remove_const_t<Pointee>>());
    }
    return parameter;
  }

  // Position I of the parameters, from its buffer or from the thread's place.
  template <class P, size_t I, size_t Count>
  __attribute__((no_sanitize("thread"), always_inline)) static P argument(void* const* buffers,
                                                                          const metal::uint3& group, unsigned simd,
                                                                          unsigned lane) {
    if constexpr (I + 3 == Count) {
      return group;
    } else if constexpr (I + 2 == Count) {
      return simd;
    } else if constexpr (I + 1 == Count) {
      return lane;
    } else if constexpr (std::is_reference_v<P>) {
      return *static_cast<std::remove_reference_t<P>*>(buffers[I]);
    } else {
      return static_cast<P>(buffers[I]);
    }
  }

  template <class... Parameters>
  __attribute__((no_sanitize("thread"))) static void run(CompiledKernel::Function function, void* const* buffers,
                                                         const metal::uint3& group, unsigned simd, unsigned lane) {
    call(reinterpret_cast<void (*)(Parameters...)>(function), buffers, group, simd, lane,
         std::make_index_sequence<sizeof...(Parameters)>());
  }

  template <class... Parameters, size_t... I>
  __attribute__((no_sanitize("thread"), always_inline)) static void call(void (*function)(Parameters...),
                                                                         void* const* buffers,
                                                                         const metal::uint3& group, unsigned simd,
                                                                         unsigned lane, std::index_sequence<I...>) {
    function(argument<Parameters, I, sizeof...(Parameters)>(buffers, group, simd, lane)...);
  }
};

}  // namespace xlstm::emulator
