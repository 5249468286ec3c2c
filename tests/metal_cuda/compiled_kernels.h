// Metal kernels compiled by nvcc and run on an NVIDIA GPU: a second compiler, threads that really run at once, and
// compute-sanitizer. A simdgroup is a warp there, a threadgroup a block.
//
// translate.py changes the words of the shaders of kernels/metal that CUDA does not know, include/xlstm_msl.h stands in
// for Metal's headers, and library.cpp defines the members of libtorch's MetalShaderLibrary and MetalKernelFunction
// that host code calls. So programs that are otherwise linked with the emulator run their kernels on that GPU instead,
// on tensors of the CPU. scripts/check_metal_cuda.sh builds and runs them. Shared by CUDA sources and host code.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace xlstm::metal_cuda {

constexpr int kMaxBuffers = 31;  // Metal's limit

// What a kernel is launched with: device memory at the positions of [[buffer(n)]].
struct Buffers {
  void* at[kMaxBuffers];
};

struct Parameter {
  bool is_arguments = false;  // a struct, given as bytes
  bool is_writable = false;
  size_t bytes = 0;  // of the struct, or of an element
};

struct CompiledKernel {
  std::string name;
  std::string shader;  // the file, below the project's root
  const void* entry = nullptr;
  std::vector<Parameter> parameters;  // the i-th is [[buffer(i)]]
};

void add_kernel(CompiledKernel kernel);
[[nodiscard]] const std::vector<CompiledKernel>& compiled_kernels();

// At its end the program writes a line "shader kernel launches" for each kernel to a file of its own, whose name begins
// with what the environment variable XLSTM_METAL_CUDA_LAUNCHES says, if it is there.
void count_launch(const CompiledKernel& kernel);

}  // namespace xlstm::metal_cuda
