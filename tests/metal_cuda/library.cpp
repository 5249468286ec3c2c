// The members of libtorch's Metal classes that host code calls, for kernels that nvcc has compiled.
#include <ATen/core/Tensor.h>
#include <ATen/native/mps/MetalShaderLibrary.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <stdexcept>

#include "kernels/metal/shaders.h"
#include "tests/metal_cuda/compiled_kernels.h"
#include "tests/metal_cuda/device_memory.h"
#include "tests/metal_emulator/emulator.h"

namespace xlstm::metal_cuda {
namespace {

constexpr uint64_t kMaxThreads = 1024;
constexpr size_t kMaxSharedBytes = 32768;
constexpr uint64_t kMaxArgumentBytes = 4096;

// Behind the opaque pointer of a MetalKernelFunction.
struct Pipeline {
  const CompiledKernel* kernel = nullptr;
  bool encoding = false;
  Buffers buffers{};
  std::vector<char> is_set;
};

// The tensors of the running command block on the device; none outside of one.
std::unique_ptr<DeviceMemory> memory;

Pipeline& pipeline(void* pointer) {
  return *static_cast<Pipeline*>(pointer);
}

[[noreturn]] void refuse(const Pipeline& self, const std::string& what) {
  throw std::runtime_error("Metal kernel " + self.kernel->name + " as CUDA: " + what);
}

void check(cudaError_t result, const Pipeline& self, const char* what) {
  if (result != cudaSuccess) refuse(self, std::string(what) + ": " + cudaGetErrorString(result));
}

const Parameter& parameter(Pipeline& self, unsigned index) {
  if (memory == nullptr || !self.encoding) refuse(self, "setArg outside of a command block or before startEncoding");
  if (index >= self.kernel->parameters.size()) refuse(self, "buffer " + std::to_string(index) + " is not a parameter");
  self.is_set[index] = 1;
  return self.kernel->parameters[index];
}

using Library = std::vector<const CompiledKernel*>;

// The kernels of the shader with this text, which is one of those that are embedded in the program.
Library kernels_of(const std::string& text) {
  int devices = 0;
  const cudaError_t result = cudaGetDeviceCount(&devices);
  if (result != cudaSuccess || devices == 0) {
    throw std::runtime_error(std::string("an NVIDIA GPU is needed: ") + cudaGetErrorString(result));
  }
  Library library;
  for (const metal::Shader& shader : metal::shaders()) {
    if (text != shader.text) continue;
    for (const CompiledKernel& kernel : compiled_kernels()) {
      if (kernel.shader == shader.file) library.push_back(&kernel);
    }
  }
  if (library.empty()) throw std::runtime_error("shader text: none of the shaders compiled into this program");
  return library;
}

Pipeline* new_pipeline(const Library& library, const std::string& name) {
  const auto found = std::find_if(library.begin(), library.end(), [&](const auto* k) { return k->name == name; });
  if (found == library.end()) throw std::runtime_error("Metal kernel " + name + ": not in this library");
  auto self = std::make_unique<Pipeline>();
  self->kernel = *found;
  cudaFuncAttributes attributes{};
  check(cudaFuncGetAttributes(&attributes, self->kernel->entry), *self, "its code");
  if (attributes.sharedSizeBytes > kMaxSharedBytes) {
    refuse(*self, std::to_string(attributes.sharedSizeBytes) + " bytes of threadgroup memory, more than Metal has");
  }
  return self.release();
}

}  // namespace

}  // namespace xlstm::metal_cuda

namespace xlstm::emulator {

// Nothing here heeds them.
Settings& settings() {
  static Settings value;
  return value;
}

bool has_checks() {
  return false;
}

// Here the GPU decides on the order, and another time on another one.
std::string order_dependence(const std::function<std::string()>& run) {
  const std::string expected = run();
  for (int repeat = 1; repeat <= 4; ++repeat) {
    if (run() != expected) return "repeat " + std::to_string(repeat) + " differs from the first run";
  }
  return "";
}

}  // namespace xlstm::emulator

namespace at::native::mps {

namespace cuda = xlstm::metal_cuda;

MetalShaderLibrary::~MetalShaderLibrary() = default;
DynamicMetalShaderLibrary::~DynamicMetalShaderLibrary() = default;

// The library is the list of its kernels, held here for good.
MTLLibrary_t MetalShaderLibrary::getLibrary() {
  if (library == nullptr) {
    static std::vector<std::unique_ptr<cuda::Library>> libraries;
    libraries.push_back(std::make_unique<cuda::Library>(cuda::kernels_of(shaderSource)));
    library = libraries.back().get();
  }
  return library;
}

MTLLibrary_t MetalShaderLibrary::getLibrary(const std::initializer_list<std::string>& /*params*/) {
  throw std::runtime_error("shaders with text parameters are not compiled as CUDA");
}

std::vector<std::string> MetalShaderLibrary::getFunctionNames() {
  std::vector<std::string> names;
  for (const cuda::CompiledKernel* kernel : *static_cast<cuda::Library*>(getLibrary())) names.push_back(kernel->name);
  return names;
}

std::shared_ptr<MetalKernelFunction> MetalShaderLibrary::getKernelFunction(const std::string& name) {
  const auto& library_kernels = *static_cast<cuda::Library*>(getLibrary());
  return std::make_shared<MetalKernelFunction>(cuda::new_pipeline(library_kernels, name), nullptr);
}

MetalKernelFunction* MetalShaderLibrary::getCachedKernelFunctionPtr(const std::string& name) {
  std::unique_ptr<MetalKernelFunction>& cached = kernelCache[name];
  if (cached == nullptr) {
    const auto& library_kernels = *static_cast<cuda::Library*>(getLibrary());
    cached = std::make_unique<MetalKernelFunction>(cuda::new_pipeline(library_kernels, name), nullptr);
  }
  return cached.get();
}

MetalKernelFunction::MetalKernelFunction(MTLComputePipelineState_t cps_, MTLFunction_t f_) : cps(cps_), func(f_) {}
MetalKernelFunction::~MetalKernelFunction() {
  delete static_cast<cuda::Pipeline*>(cps);
}
uint64_t MetalKernelFunction::getMaxThreadsPerThreadgroup() const {
  return cuda::kMaxThreads;
}
uint64_t MetalKernelFunction::getThreadExecutionWidth() const {
  return 32;
}

void MetalKernelFunction::runCommandBlock(std::function<void(void)> f) {
  if (cuda::memory != nullptr) throw std::runtime_error("a command block within a command block");
  cuda::memory = std::make_unique<cuda::DeviceMemory>();
  try {
    f();
    cuda::memory->copy_back();
  } catch (...) {
    cuda::memory.reset();
    throw;
  }
  cuda::memory.reset();
}

void MetalKernelFunction::startEncoding() {
  cuda::Pipeline& self = cuda::pipeline(cps);
  if (cuda::memory == nullptr) cuda::refuse(self, "startEncoding outside of a command block");
  self.encoding = true;
  self.is_set.assign(self.kernel->parameters.size(), 0);
}

void MetalKernelFunction::setArg(unsigned idx, const at::TensorBase& t) {
  cuda::Pipeline& self = cuda::pipeline(cps);
  const cuda::Parameter& parameter = cuda::parameter(self, idx);
  const at::Storage& storage = t.storage();
  auto* begin = static_cast<std::byte*>(storage.data_ptr().get());
  std::byte* mirror = cuda::memory->mirror(begin, storage.nbytes(), parameter.is_writable);
  const size_t offset = static_cast<size_t>(t.storage_offset()) * t.element_size();
  self.buffers.at[idx] = mirror == nullptr ? nullptr : mirror + offset;
}

void MetalKernelFunction::setArg(unsigned idx, const void* ptr, uint64_t size) {
  cuda::Pipeline& self = cuda::pipeline(cps);
  const cuda::Parameter& parameter = cuda::parameter(self, idx);
  if (size > cuda::kMaxArgumentBytes || parameter.is_writable || (parameter.is_arguments && size != parameter.bytes)) {
    cuda::refuse(self, std::to_string(size) + " bytes for buffer " + std::to_string(idx) + ", a struct of " +
                           std::to_string(parameter.bytes));
  }
  self.buffers.at[idx] = cuda::memory->copy_of(ptr, size);
}

void MetalKernelFunction::dispatch(uint64_t length, std::optional<uint64_t> groupSize) {
  const uint64_t group = groupSize.value_or(std::min(length, cuda::kMaxThreads));
  dispatch(c10::ArrayRef<uint64_t>(length), c10::OptionalArrayRef<uint64_t>(c10::ArrayRef<uint64_t>(group)));
}

void MetalKernelFunction::dispatch(c10::ArrayRef<uint64_t> length, c10::OptionalArrayRef<uint64_t> groupSize) {
  cuda::Pipeline& self = cuda::pipeline(cps);
  if (cuda::memory == nullptr || !self.encoding) cuda::refuse(self, "dispatch before startEncoding");
  if (std::count(self.is_set.begin(), self.is_set.end(), 0) != 0) cuda::refuse(self, "a buffer is not set");
  if (!groupSize.has_value() || groupSize->size() != length.size() || length.empty() || length.size() > 3) {
    cuda::refuse(self, "expected lengths and group sizes of one to three dimensions");
  }
  std::array<unsigned, 3> groups = {1, 1, 1};
  for (size_t i = 0; i < length.size(); ++i) {
    const uint64_t size = (*groupSize)[i];
    if (size == 0 || length[i] % size != 0 || (i > 0 && size != 1)) {
      cuda::refuse(self, "expected a grid of whole threadgroups of one dimension");
    }
    groups[i] = static_cast<unsigned>(length[i] / size);
  }
  const uint64_t threads = (*groupSize)[0];
  if (threads % 32 != 0 || threads > cuda::kMaxThreads) {
    cuda::refuse(self, std::to_string(threads) + " threads: expected a multiple of 32 up to 1024");
  }
  std::array<void*, 1> arguments = {&self.buffers};
  cuda::check(cudaLaunchKernel(self.kernel->entry, dim3(groups[0], groups[1], groups[2]),
                               dim3(static_cast<unsigned>(threads)), arguments.data(), 0, nullptr),
              self, "launch");
  // One after the other, so that an error is this kernel's.
  cuda::check(cudaDeviceSynchronize(), self, "run");
  cuda::count_launch(*self.kernel);
}

}  // namespace at::native::mps
