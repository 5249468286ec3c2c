// The members of libtorch's Metal classes that host code calls.
#include <ATen/core/Tensor.h>
#include <ATen/native/mps/MetalShaderLibrary.h>

#include <algorithm>
#include <cstring>
#include <deque>

#include "emulator.h"
#include "registry.h"
#include "tests/emulation/team.h"
#include "tests/emulation/turns.h"
#include "worker.h"

namespace xlstm::emulator {
namespace {

struct Argument {
  bool set = false;
  at::Tensor tensor;             // if defined, else
  std::vector<std::byte> bytes;  // a copy, as Metal makes one
};

// Behind the opaque pointer of a MetalKernelFunction.
struct Pipeline {
  const CompiledKernel* kernel = nullptr;
  bool encoding = false;
  std::vector<Argument> arguments;
};

bool in_block = false;  // within runCommandBlock

Pipeline& pipeline(void* pointer) {
  return *static_cast<Pipeline*>(pointer);
}

[[noreturn]] void refuse(const Pipeline& pipeline, const std::string& what) {
  throw Fault("Metal kernel " + pipeline.kernel->name + ": " + what);
}

Argument& argument(void* pointer, unsigned index) {
  Pipeline& self = pipeline(pointer);
  if (!in_block || !self.encoding) refuse(self, "setArg outside of a command block or before startEncoding");
  if (index >= self.kernel->parameters.size()) {
    refuse(self, "buffer " + std::to_string(index) + " is set, but the kernel has " +
                     std::to_string(self.kernel->parameters.size()));
  }
  return self.arguments[index];
}

// Where buffer `index` lies, checked against its parameter.
Range bind(const Pipeline& self, size_t index) {
  const Parameter& parameter = self.kernel->parameters[index];
  const Argument& argument = self.arguments[index];
  Range range;
  range.name = "buffer " + std::to_string(index);
  range.writable = parameter.is_writable;
  if (!argument.set) refuse(self, range.name + " is not set");
  if (argument.tensor.defined()) {
    if (argument.tensor.use_count() == 1 && argument.tensor.storage().use_count() == 1) {
      refuse(self, range.name + " is a tensor that was freed before the dispatch");
    }
    const at::Storage& storage = argument.tensor.storage();
    range.begin = reinterpret_cast<uintptr_t>(argument.tensor.const_data_ptr());
    range.bytes = reinterpret_cast<uintptr_t>(storage.data()) + storage.nbytes() - range.begin;
  } else {
    range.begin = reinterpret_cast<uintptr_t>(argument.bytes.data());
    range.bytes = argument.bytes.size();
    if (range.writable) refuse(self, range.name + " is bytes, but the kernel writes to it");
  }
  if (parameter.is_reference && range.bytes != parameter.bytes) {
    refuse(self, range.name + " has " + std::to_string(range.bytes) + " bytes, but the kernel's struct " +
                     std::to_string(parameter.bytes));
  }
  if (range.begin % parameter.alignment != 0) {
    refuse(self, range.name + " is not aligned to " + std::to_string(parameter.alignment) + " bytes");
  }
  return range;
}

// Races are looked for in the buffers that the kernel may write to.
void prepare_checks(Launch& launch) {
  static std::deque<Shadow> shadows;
  static uint32_t next_group = 1;
  launch.first_group = next_group;
  next_group += static_cast<uint32_t>(launch.order.size());
  size_t used = 0;
  for (Range& range : launch.ranges) {
    range.overlaps_writable = std::any_of(launch.ranges.begin(), launch.ranges.end(), [&](const Range& other) {
      return &other != &range && other.writable && other.begin < range.begin + range.bytes &&
             range.begin < other.begin + other.bytes;
    });
    if (!launch.settings.check_races || !range.writable) continue;
    if (used == shadows.size()) shadows.emplace_back();
    range.shadow = &shadows[used++];
    range.shadow->resize(range.bytes,
                         launch.kernel->parameters[static_cast<size_t>(&range - launch.ranges.data())].element_bytes);
  }
}

}  // namespace

Settings& settings() {
  static Settings value;
  return value;
}

bool has_checks() {
#if defined(XLSTM_EMULATOR_THREAD) || defined(XLSTM_EMULATOR_ADDRESS)
  return false;
#else
  return true;
#endif
}

std::string order_dependence(const std::function<std::string()>& run) {
  return emulation::order_dependence(settings(), run);
}

}  // namespace xlstm::emulator

namespace at::native::mps {

using xlstm::emulator::CompiledKernel;
using xlstm::emulator::Fault;
using xlstm::emulator::Pipeline;
namespace emulator = xlstm::emulator;

MetalShaderLibrary::~MetalShaderLibrary() = default;
DynamicMetalShaderLibrary::~DynamicMetalShaderLibrary() = default;

// The library is the list of its kernels, held by the emulator for good.
MTLLibrary_t MetalShaderLibrary::getLibrary() {
  if (library == nullptr) {
    static std::vector<std::unique_ptr<std::vector<const CompiledKernel*>>> libraries;
    libraries.push_back(std::make_unique<std::vector<const CompiledKernel*>>(emulator::kernels_of(shaderSource)));
    library = libraries.back().get();
  }
  return library;
}

MTLLibrary_t MetalShaderLibrary::getLibrary(const std::initializer_list<std::string>& /*params*/) {
  throw Fault("shaders with text parameters are not emulated");
}

std::vector<std::string> MetalShaderLibrary::getFunctionNames() {
  std::vector<std::string> names;
  for (const CompiledKernel* kernel : *static_cast<std::vector<const CompiledKernel*>*>(getLibrary())) {
    names.push_back(kernel->name);
  }
  return names;
}

std::shared_ptr<MetalKernelFunction> MetalShaderLibrary::getKernelFunction(const std::string& name) {
  for (const CompiledKernel* kernel : *static_cast<std::vector<const CompiledKernel*>*>(getLibrary())) {
    if (kernel->name == name) {
      return std::make_shared<MetalKernelFunction>(new Pipeline{kernel, false, {}}, nullptr);
    }
  }
  throw Fault("Metal kernel " + name + ": not in this library");
}

MetalKernelFunction* MetalShaderLibrary::getCachedKernelFunctionPtr(const std::string& name) {
  std::unique_ptr<MetalKernelFunction>& cached = kernelCache[name];
  if (cached == nullptr) {
    for (const CompiledKernel* kernel : *static_cast<std::vector<const CompiledKernel*>*>(getLibrary())) {
      if (kernel->name == name)
        cached = std::make_unique<MetalKernelFunction>(new Pipeline{kernel, false, {}}, nullptr);
    }
  }
  if (cached == nullptr) throw Fault("Metal kernel " + name + ": not in this library");
  return cached.get();
}

MetalKernelFunction::MetalKernelFunction(MTLComputePipelineState_t cps_, MTLFunction_t f_) : cps(cps_), func(f_) {}
MetalKernelFunction::~MetalKernelFunction() {
  delete static_cast<Pipeline*>(cps);
}
uint64_t MetalKernelFunction::getMaxThreadsPerThreadgroup() const {
  return 1024;
}
uint64_t MetalKernelFunction::getThreadExecutionWidth() const {
  return emulator::kLanes;
}

void MetalKernelFunction::runCommandBlock(std::function<void(void)> f) {
  if (emulator::in_block) throw Fault("a command block within a command block: Metal's queue would wait for itself");
  emulator::in_block = true;
  try {
    f();
  } catch (...) {
    emulator::in_block = false;
    throw;
  }
  emulator::in_block = false;
}

void MetalKernelFunction::startEncoding() {
  Pipeline& self = emulator::pipeline(cps);
  if (!emulator::in_block) emulator::refuse(self, "startEncoding outside of a command block");
  self.encoding = true;
  self.arguments.assign(self.kernel->parameters.size(), {});
}

void MetalKernelFunction::setArg(unsigned idx, const at::TensorBase& t) {
  emulator::Argument& argument = emulator::argument(cps, idx);
  argument.set = true;
  argument.tensor = at::Tensor(t);
}

void MetalKernelFunction::setArg(unsigned idx, const void* ptr, uint64_t size) {
  emulator::Argument& argument = emulator::argument(cps, idx);
  if (size > 4096)
    emulator::refuse(emulator::pipeline(cps), std::to_string(size) + " bytes of arguments, at most 4096");
  argument.set = true;
  argument.tensor = at::Tensor();
  argument.bytes.resize(size);
  std::memcpy(argument.bytes.data(), ptr, size);
}

void MetalKernelFunction::dispatch(uint64_t length, std::optional<uint64_t> groupSize) {
  const uint64_t group = groupSize.value_or(std::min<uint64_t>(length, 1024));
  dispatch(c10::ArrayRef<uint64_t>(length), c10::OptionalArrayRef<uint64_t>(c10::ArrayRef<uint64_t>(group)));
}

void MetalKernelFunction::dispatch(c10::ArrayRef<uint64_t> length, c10::OptionalArrayRef<uint64_t> groupSize) {
  const Pipeline& self = emulator::pipeline(cps);
  if (!emulator::in_block || !self.encoding) {
    emulator::refuse(self, "dispatch outside of a command block or before startEncoding");
  }
  if (self.arguments.size() > 31) emulator::refuse(self, "more than 31 buffers");
  if (!groupSize.has_value() || groupSize->size() != length.size() || length.empty() || length.size() > 3) {
    emulator::refuse(self, "lengths and group sizes of one to three dimensions expected");
  }
  emulator::Launch launch;
  launch.kernel = self.kernel;
  launch.settings = emulator::settings();
  launch.groups = {1, 1, 1};
  for (size_t i = 0; i < length.size(); ++i) {
    const uint64_t size = (*groupSize)[i];
    if (i > 0 && size != 1) emulator::refuse(self, "a threadgroup of more than one dimension");
    if (size == 0 || length[i] % size != 0) emulator::refuse(self, "a grid that is not of whole threadgroups");
    launch.groups[i] = length[i] / size;
  }
  const uint64_t threads = (*groupSize)[0];
  if (threads % emulator::kLanes != 0 || threads > 1024) {
    emulator::refuse(self, std::to_string(threads) + " threads in a threadgroup: expected a multiple of 32 up to 1024");
  }
  launch.threads = static_cast<unsigned>(threads);
  for (size_t i = 0; i < self.arguments.size(); ++i) {
    launch.ranges.push_back(emulator::bind(self, i));
    launch.buffers.push_back(reinterpret_cast<void*>(launch.ranges.back().begin));
  }
  const size_t groups = launch.groups[0] * launch.groups[1] * launch.groups[2];
  launch.order = xlstm::emulation::ordered_blocks(launch.settings, groups);
  emulator::prepare_checks(launch);
  xlstm::emulation::Team<emulator::Worker, emulator::Launch>::get().run(launch);
  if (launch.failed) throw Fault(launch.fault);
}

}  // namespace at::native::mps
